// Symmetric 4-bit integers in groups of 64 weights.
#include "format/int4.h"

namespace nibble::registry {

const Format& format_int4_g64() {
  static const Int4<64> format("int4_g64");
  return format;
}

}  // namespace nibble::registry
