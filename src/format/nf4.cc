// NF4 (QLoRA, Dettmers et al. 2023): 64 weights in 36 bytes. float32 scale, the largest size of the
// block; then 4-bit codes, the even column of a pair in the low half. The levels are quantiles of a
// normal distribution.
#include "format/four_bit_floats.h"

namespace nibble::registry {

const Format& format_nf4() {
  static constexpr std::array<float, 16> kValues = {
      -1.0f,         -0.696192801f, -0.525073051f, -0.394917488f, -0.284441382f, -0.184773430f,
      -0.091050036f, 0.0f,          0.079580300f,  0.160930201f,  0.246112302f,  0.337915242f,
      0.440709829f,  0.562617004f,  0.722956836f,  1.0f};
  static const FourBitFloats format("nf4", kValues);
  return format;
}

}  // namespace nibble::registry
