#include "container/metadata.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "base/utf8.h"

namespace nibble {
namespace {

tl::unexpected<Error> missing(std::string_view key) {
  return fail(ErrorCode::corrupt, "metadata key {} is missing", quote(key));
}

tl::unexpected<Error> mistyped(std::string_view key, const char* expected) {
  return fail(ErrorCode::corrupt, "metadata key {} is not {}", quote(key), expected);
}

}  // namespace

Result<Metadata> Metadata::from(std::vector<Entry> entries) {
  std::vector<std::string_view> keys;
  keys.reserve(entries.size());
  for (const Entry& entry : entries) keys.push_back(entry.first);
  std::sort(keys.begin(), keys.end());
  const auto twice = std::adjacent_find(keys.begin(), keys.end());
  if (twice != keys.end())
    return fail(ErrorCode::corrupt, "metadata key {} occurs twice", quote(*twice));
  Metadata metadata;
  metadata.entries_ = std::move(entries);
  return metadata;
}

const MetaValue* Metadata::find(std::string_view key) const {
  for (const Entry& entry : entries_)
    if (entry.first == key) return &entry.second;
  return nullptr;
}

void Metadata::set(std::string key, MetaValue value) {
  for (Entry& entry : entries_) {
    if (entry.first != key) continue;
    entry.second = std::move(value);
    return;
  }
  entries_.emplace_back(std::move(key), std::move(value));
}

void Metadata::erase(std::string_view key) {
  std::erase_if(entries_, [&](const Entry& entry) { return entry.first == key; });
}

Result<std::uint64_t> Metadata::uint(std::string_view key) const {
  const MetaValue* value = find(key);
  if (!value) return missing(key);
  return std::visit(
      [&](const auto& x) -> Result<std::uint64_t> {
        using T = std::decay_t<decltype(x)>;
        if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
          if (x >= T(0)) return std::uint64_t(x);
        }
        return mistyped(key, "a whole number");
      },
      *value);
}

Result<std::uint64_t> Metadata::uint_or(std::string_view key, std::uint64_t otherwise) const {
  return find(key) ? uint(key) : otherwise;
}

Result<double> Metadata::number(std::string_view key) const {
  const MetaValue* value = find(key);
  if (!value) return missing(key);
  return std::visit(
      [&](const auto& x) -> Result<double> {
        using T = std::decay_t<decltype(x)>;
        if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
          if (std::isfinite(double(x))) return double(x);
        }
        return mistyped(key, "a finite number");
      },
      *value);
}

Result<double> Metadata::number_or(std::string_view key, double otherwise) const {
  return find(key) ? number(key) : otherwise;
}

Result<std::string> Metadata::text(std::string_view key) const {
  const MetaValue* value = find(key);
  if (!value) return missing(key);
  if (const auto* text = std::get_if<std::string>(value)) return *text;
  return mistyped(key, "a string");
}

Result<std::string> Metadata::text_or(std::string_view key, std::string otherwise) const {
  return find(key) ? text(key) : std::move(otherwise);
}

Result<bool> Metadata::flag_or(std::string_view key, bool otherwise) const {
  const MetaValue* value = find(key);
  if (!value) return otherwise;
  if (const bool* flag = std::get_if<bool>(value)) return *flag;
  return mistyped(key, "true or false");
}

}  // namespace nibble
