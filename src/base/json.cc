#include "base/json.h"

#include <set>
#include <vector>

#include "base/utf8.h"

namespace nibble {
namespace {

/// Stops the parser at too deep nesting (which would exhaust the stack of recursive users) and at
/// duplicate keys.
class Guard {
 public:
  explicit Guard(int depth) : limit_(depth) {}

  bool operator()(int depth, Json::parse_event_t event, Json& value) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (depth >= limit_) throw Json::other_error::create(0, "nested too deeply", nullptr);
      if (event == Event::object_start) keys_.emplace_back();
    } else if (event == Event::object_end) {
      keys_.pop_back();
    } else if (event == Event::key && !keys_.back().insert(value.get<std::string>()).second) {
      throw Json::other_error::create(0, "duplicate key '" + value.get<std::string>() + "'",
                                      nullptr);
    }
    return true;
  }

 private:
  int limit_;
  std::vector<std::set<std::string>> keys_;
};

const Json* find(const Json& object, const char* field) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(field);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

tl::unexpected<Error> wrong(const char* field, const Json* value, const char* expected) {
  if (!value) return fail(ErrorCode::corrupt, "field '{}' is missing", field);
  return fail(ErrorCode::corrupt, "field '{}' is {}, expected {}", field, value->type_name(),
              expected);
}

}  // namespace

Result<Json> parse_json(std::string_view text, int depth) {
  try {
    return Json::parse(text, Guard(depth));
  } catch (const Json::exception& e) {
    // "[json.exception.parse_error.101] parse error at ...", with bytes of the text in it
    const std::string_view what = e.what(), reason = what.substr(what.find(' ') + 1);
    return fail(ErrorCode::corrupt, "not valid JSON: {}", quote(reason));
  }
}

Result<std::uint64_t> json_uint(const Json& object, const char* field) {
  const Json* value = find(object, field);
  if (!value || !value->is_number_unsigned()) return wrong(field, value, "a whole number");
  return value->get<std::uint64_t>();
}

Result<double> json_number(const Json& object, const char* field) {
  const Json* value = find(object, field);
  if (!value || !value->is_number()) return wrong(field, value, "a number");
  return value->get<double>();
}

Result<std::string> json_string(const Json& object, const char* field) {
  const Json* value = find(object, field);
  if (!value || !value->is_string()) return wrong(field, value, "a string");
  return value->get<std::string>();
}

Result<std::uint64_t> json_uint_or(const Json& object, const char* field, std::uint64_t otherwise) {
  return find(object, field) ? json_uint(object, field) : otherwise;
}

Result<double> json_number_or(const Json& object, const char* field, double otherwise) {
  return find(object, field) ? json_number(object, field) : otherwise;
}

Result<std::string> json_string_or(const Json& object, const char* field, std::string otherwise) {
  return find(object, field) ? json_string(object, field) : std::move(otherwise);
}

Result<bool> json_bool_or(const Json& object, const char* field, bool otherwise) {
  const Json* value = find(object, field);
  if (!value) return otherwise;
  if (!value->is_boolean()) return wrong(field, value, "true or false");
  return value->get<bool>();
}

}  // namespace nibble
