#include "compare/markup.h"

#include <algorithm>

#include "base/utf8.h"

namespace nibble {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

/// Bytes of the character at `at`, 0 if there is none.
std::size_t character_bytes(std::string_view text, std::size_t at) {
  for (std::size_t n = 1; n <= 4 && at + n <= text.size(); ++n)
    if (is_utf8(text.substr(at, n))) return n;
  return 0;
}

std::string_view escaped(std::string_view character) {
  switch (character.front()) {
    case '&':
      return "&amp;";
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '"':
      return "&quot;";
    case '\'':
      return "&#39;";
    case '\n':
    case '\t':
      return character;
  }
  const unsigned char first = static_cast<unsigned char>(character.front());
  const bool control = first < 32 || first == 127 ||
                       (first == 0xc2 && static_cast<unsigned char>(character.back()) < 0xa0);
  return control ? kReplacement : character;
}

}  // namespace

std::string escape_markup(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t n = character_bytes(text, i);
    out += n == 0 ? kReplacement : escaped(text.substr(i, n));
    i += n == 0 ? 1 : n;
  }
  return out;
}

std::string shortened(std::string_view text, std::size_t most) {
  std::size_t end = 0, characters = 0, before_last = 0;
  while (end < text.size() && characters < most) {
    before_last = end;
    end += std::max<std::size_t>(character_bytes(text, end), 1);
    ++characters;
  }
  if (end == text.size()) return std::string(text);
  return std::string(text.substr(0, before_last)) + "\xe2\x80\xa6";
}

}  // namespace nibble
