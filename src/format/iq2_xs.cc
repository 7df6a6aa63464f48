// IQ2_XS: 256 weights in 74 bytes, sub-blocks of 16. fp16 d; 2 bytes a group of 8 columns: 9 bits
// of point, 7 bits with the signs of all columns but the last (an even number is negative); 8 bytes
// of 4-bit scales s, sub-block 0 lowest. value = (d * (2s + 1) / 8) * level.
#include "format/levels.h"
#include "format/odd_scales.h"
#include "format/points.h"

namespace nibble {
namespace {

constexpr Codebook kBook{.points = kIq2XsPoints,
                         .width = 8,
                         .digit_bits = 2,
                         .values = kThreeSizes,
                         .signs = Codebook::Signs::even};

class Iq2Xs final : public Format {
 public:
  Iq2Xs()
      : Format({.id = "iq2_xs",
                .block = 256,
                .grain = kGroup,
                .bytes = 74,
                .ggml_type = 17,
                .ggml_name = "IQ2_XS",
                .layout = odd_scales_layout(16, 31, 0.125f, kSixLevels, &kBook)}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_fp16(out, grid.d);
    for (int g = 0; g < 32; ++g)
      put_u16(out + 2 + 2 * g, std::uint16_t((codes[g] & 511) | (codes[g] >> 24 & 127) << 9));
    put_odd_scales<16>(grid, out + 66);
  }

  void unpack(const std::byte* in, Grid& grid, Code* codes) const override {
    grid.d = get_fp16(in);
    for (int g = 0; g < 32; ++g) {
      const std::uint32_t word = get_u16(in + 2 + 2 * g);
      codes[g] = (word & 511) | even_signs(word >> 9) << 24;
    }
    get_odd_scales<16>(in + 66, grid);
    make_effective(grid);
  }
};

}  // namespace

namespace registry {
const Format& format_iq2_xs() {
  static const Iq2Xs format;
  return format;
}
}  // namespace registry
}  // namespace nibble
