// F16: 2 bytes a weight, IEEE binary16.
#include "format/plain.h"

namespace nibble::registry {
const Format& format_f16() {
  static const PlainFormat<std::uint16_t, fp16_to_f32, f32_to_fp16> format("f16", 1, "F16");
  return format;
}
}  // namespace nibble::registry
