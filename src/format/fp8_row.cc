// 8-bit floats, a bf16 scale a row.
#include "format/fp8.h"

namespace nibble::registry {

const Format& format_fp8_row() {
  static const Fp8 format("fp8_row", Layout::Number::bf16, /*whole_row=*/true);
  return format;
}

}  // namespace nibble::registry
