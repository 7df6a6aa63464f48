// NVFP4 with any number for the matrix.
#include "format/nvfp4.h"

namespace nibble::registry {
const Format& format_nvfp4() {
  static const Nvfp4 format("nvfp4", Layout::Number::f32);
  return format;
}
}  // namespace nibble::registry
