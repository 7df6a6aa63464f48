// 8-bit floats, a float32 scale a row.
#include "format/fp8.h"

namespace nibble::registry {

const Format& format_fp8_row_f32() {
  static const Fp8 format("fp8_row_f32", Layout::Number::f32, /*whole_row=*/true);
  return format;
}

}  // namespace nibble::registry
