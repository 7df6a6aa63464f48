// BF16: 2 bytes a weight, the upper half of a float32.
#include "format/plain.h"

namespace nibble::registry {
const Format& format_bf16() {
  static const PlainFormat<std::uint16_t, bf16_to_f32, f32_to_bf16> format("bf16", 30, "BF16");
  return format;
}
}  // namespace nibble::registry
