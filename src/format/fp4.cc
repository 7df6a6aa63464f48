// FP4 as bitsandbytes has it: 64 weights in 36 bytes, as NF4, but the levels are those of a float
// of 2 bits of exponent and one of mantissa, over 12; 1/192 takes the place of the smallest.
#include "format/four_bit_floats.h"

namespace nibble::registry {

const Format& format_fp4() {
  static constexpr std::array<float, 16> kValues = {
      -1.0f, -2.0f / 3,      -0.5f,    -1.0f / 3, -0.25f,   -1.0f / 6, -0.00520833333f, -0.0f,
      0.0f,  0.00520833333f, 1.0f / 6, 0.25f,     1.0f / 3, 0.5f,      2.0f / 3,        1.0f};
  static const FourBitFloats format("fp4", kValues);
  return format;
}

}  // namespace nibble::registry
