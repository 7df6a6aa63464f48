// IQ2_XXS: 256 weights in 66 bytes, sub-blocks of 32. fp16 d; then for each sub-block 4 bytes, the
// points of its groups of 8 columns, and 4 bytes: 7 bits a group with the signs of all columns but
// the last (an even number is negative), and on top 4 bits of scale s.
// value = (d * (2s + 1) / 8) * level.
#include "format/levels.h"
#include "format/odd_scales.h"
#include "format/points.h"

namespace nibble {
namespace {

constexpr Codebook kBook{.points = kIq2XxsPoints,
                         .width = 8,
                         .digit_bits = 2,
                         .values = kThreeSizes,
                         .signs = Codebook::Signs::even};

class Iq2Xxs final : public Format {
 public:
  Iq2Xxs()
      : Format({.id = "iq2_xxs",
                .block = 256,
                .grain = kGroup,
                .bytes = 66,
                .ggml_type = 16,
                .ggml_name = "IQ2_XXS",
                .layout = odd_scales_layout(32, 31, 0.125f, kSixLevels, &kBook)}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_fp16(out, grid.d);
    for (int s = 0; s < 8; ++s) {
      std::uint32_t points = 0, rest = std::uint32_t(grid.sub_scale[s] / 2) << 28;
      for (int g = 0; g < 4; ++g) {
        const Code code = codes[4 * s + g];
        points |= (code & 255) << (8 * g);
        rest |= (code >> 24 & 127) << (7 * g);
      }
      put_u32(out + 2 + 8 * s, points);
      put_u32(out + 6 + 8 * s, rest);
    }
  }

  void unpack(const std::byte* in, Grid& grid, Code* codes) const override {
    grid.d = get_fp16(in);
    for (int s = 0; s < 8; ++s) {
      const std::uint32_t points = get_u32(in + 2 + 8 * s), rest = get_u32(in + 6 + 8 * s);
      grid.sub_scale[s] = std::int16_t(2 * (rest >> 28) + 1);
      for (int g = 0; g < 4; ++g)
        codes[4 * s + g] = (points >> (8 * g) & 255) | even_signs(rest >> (7 * g)) << 24;
    }
    make_effective(grid);
  }
};

}  // namespace

namespace registry {
const Format& format_iq2_xxs() {
  static const Iq2Xxs format;
  return format;
}
}  // namespace registry
}  // namespace nibble
