// Text from anywhere inside HTML and SVG.
#pragma once

#include <string>
#include <string_view>

namespace nibble {

/// For text and for attributes in either kind of quotes. Bytes that are not UTF-8 and control
/// characters other than line ends and tabs become U+FFFD.
std::string escape_markup(std::string_view text);

/// At most `most` characters, the last one an ellipsis if some were cut.
std::string shortened(std::string_view text, std::size_t most);

}  // namespace nibble
