// F32: 4 bytes a weight, IEEE binary32.
#include "format/plain.h"

namespace nibble {
namespace {

float to_float(std::uint32_t bits) { return std::bit_cast<float>(bits); }
std::uint32_t from_float(float x) { return std::bit_cast<std::uint32_t>(x); }

}  // namespace

namespace registry {
const Format& format_f32() {
  static const PlainFormat<std::uint32_t, to_float, from_float> format("f32", 0, "F32");
  return format;
}
}  // namespace registry
}  // namespace nibble
