// Strings from outside: are they UTF-8, and how do they appear in a one-line message.
#pragma once

#include <string>
#include <string_view>

namespace nibble {

/// True for well-formed UTF-8 (no overlong forms, no surrogates, at most U+10FFFF).
bool is_utf8(std::string_view text);

/// 'text' in quotes for a message: control characters and bytes that are not UTF-8 become \xNN, and
/// long texts are cut.
std::string quote(std::string_view text);

}  // namespace nibble
