// NVFP4 with 512 for the matrix.
#include "format/nvfp4.h"

namespace nibble::registry {
const Format& format_nvfp4_512() {
  static const Nvfp4 format("nvfp4_512", Layout::Number::e4m3);
  return format;
}
}  // namespace nibble::registry
