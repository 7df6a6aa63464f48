// JSON from outside: nlohmann::json with limits, and field access whose errors name the field.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "base/result.h"

namespace nibble {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // fields stay in the order of the text

/// Parses untrusted text: at most `depth` nested levels, no duplicate keys inside an object.
Result<Json> parse_json(std::string_view text, int depth = 64);

/// Typed access to object fields. Missing or of another type: an error naming the field.
Result<std::uint64_t> json_uint(const Json& object, const char* field);
Result<double> json_number(const Json& object, const char* field);
Result<std::string> json_string(const Json& object, const char* field);
/// The same, with a value for a field that is missing or null.
Result<std::uint64_t> json_uint_or(const Json& object, const char* field, std::uint64_t otherwise);
Result<double> json_number_or(const Json& object, const char* field, double otherwise);
Result<std::string> json_string_or(const Json& object, const char* field, std::string otherwise);
Result<bool> json_bool_or(const Json& object, const char* field, bool otherwise);

}  // namespace nibble
