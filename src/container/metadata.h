// Key-value metadata in the types of GGUF, which is what nibble carries a model's description in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace nibble {

/// Array types that occur in files. Bools and 8-bit integers are kept as they are, so that a copy
/// is exact.
using MetaValue =
    std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t,
                 std::int32_t, float, bool, std::string, std::uint64_t, std::int64_t, double,
                 std::vector<std::uint8_t>, std::vector<std::int8_t>, std::vector<std::uint16_t>,
                 std::vector<std::int16_t>, std::vector<std::uint32_t>, std::vector<std::int32_t>,
                 std::vector<float>, std::vector<bool>, std::vector<std::string>,
                 std::vector<std::uint64_t>, std::vector<std::int64_t>, std::vector<double>>;

/// Ordered; keys are unique.
class Metadata {
 public:
  using Entry = std::pair<std::string, MetaValue>;

  /// Many entries at once; a key that occurs twice is an error.
  static Result<Metadata> from(std::vector<Entry> entries);

  const std::vector<Entry>& entries() const { return entries_; }
  const MetaValue* find(std::string_view key) const;
  void set(std::string key, MetaValue value);  // replaces in place or appends
  void erase(std::string_view key);

  /// Any integer type whose value fits; a missing key or another type is an error naming the key.
  Result<std::uint64_t> uint(std::string_view key) const;
  Result<std::uint64_t> uint_or(std::string_view key, std::uint64_t otherwise) const;
  Result<double> number(std::string_view key) const;
  Result<double> number_or(std::string_view key, double otherwise) const;
  Result<std::string> text(std::string_view key) const;
  Result<std::string> text_or(std::string_view key, std::string otherwise) const;
  Result<bool> flag_or(std::string_view key, bool otherwise) const;

 private:
  std::vector<Entry> entries_;
};

}  // namespace nibble
