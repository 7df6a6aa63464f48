// Symmetric 4-bit integers in groups of 32 weights.
#include "format/int4.h"

namespace nibble::registry {

const Format& format_int4_g32() {
  static const Int4<32> format("int4_g32");
  return format;
}

}  // namespace nibble::registry
