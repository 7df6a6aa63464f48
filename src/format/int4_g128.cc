// Symmetric 4-bit integers in groups of 128 weights.
#include "format/int4.h"

namespace nibble::registry {

const Format& format_int4_g128() {
  static const Int4<128> format("int4_g128");
  return format;
}

}  // namespace nibble::registry
