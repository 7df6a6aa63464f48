#include "base/utf8.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>

namespace nibble {
namespace {

/// Bytes of the well-formed character at the start of `text`, 0 if there is none.
std::size_t character(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [&](std::size_t i) { return std::uint8_t(text[i]); };
  const std::uint8_t first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < size) return 0;
  for (std::size_t i = 1; i < size; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  const bool overlong = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xf0 && byte(1) < 0x90);
  const bool surrogate = first == 0xed && byte(1) >= 0xa0;
  const bool too_large = first == 0xf4 && byte(1) >= 0x90;
  return overlong || surrogate || too_large ? 0 : size;
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t n = character(text);
    if (n == 0) return false;
    text.remove_prefix(n);
  }
  return true;
}

std::string quote(std::string_view text) {
  constexpr std::size_t kLongest = 120;
  std::string out = "'";
  while (!text.empty() && out.size() < kLongest) {
    const std::size_t n = character(text);
    const auto first = std::uint8_t(text[0]);
    if (n == 0 || first < 0x20 || first == 0x7f) {
      out += fmt::format("\\x{:02x}", first);
      text.remove_prefix(1);
    } else {
      out += text.substr(0, n);
      text.remove_prefix(n);
    }
  }
  return out + (text.empty() ? "'" : "...'");
}

}  // namespace nibble
