// 8-bit floats, a float32 scale for every 32 columns: what checkpoints with a scale for a block of
// rows and columns are cut into.
#include "format/fp8.h"

namespace nibble::registry {

const Format& format_fp8_g32_f32() {
  static const Fp8 format("fp8_g32_f32", Layout::Number::f32, /*whole_row=*/false);
  return format;
}

}  // namespace nibble::registry
