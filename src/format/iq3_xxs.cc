// IQ3_XXS: 256 weights in 98 bytes, sub-blocks of 32. fp16 d; a byte every 4 columns, their point;
// 4 bytes a sub-block: 7 bits every 8 columns with the signs of all but the last (an even number is
// negative), and on top 4 bits of scale s. value = (d * (2s + 1) / 4) * level.
#include "format/levels.h"
#include "format/odd_scales.h"
#include "format/points.h"

namespace nibble {
namespace {

constexpr std::array<std::int8_t, 8> kSizes = {4, 12, 20, 28, 36, 44, 52, 62};
constexpr auto kLevels = both_signs(kSizes);
constexpr Codebook kBook{.points = kIq3XxsPoints,
                         .width = 4,
                         .digit_bits = 3,
                         .values = kSizes,
                         .signs = Codebook::Signs::even};

class Iq3Xxs final : public Format {
 public:
  Iq3Xxs()
      : Format({.id = "iq3_xxs",
                .block = 256,
                .grain = kGroup,
                .bytes = 98,
                .ggml_type = 18,
                .ggml_name = "IQ3_XXS",
                .layout = odd_scales_layout(32, 31, 0.25f, kLevels, &kBook)}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_fp16(out, grid.d);
    for (int s = 0; s < 8; ++s) {
      std::uint32_t rest = std::uint32_t(grid.sub_scale[s] / 2) << 28;
      for (int g = 0; g < 4; ++g) {
        const Code code = codes[4 * s + g];
        out[2 + 8 * s + 2 * g] = std::byte(code & 255);
        out[3 + 8 * s + 2 * g] = std::byte(code >> 12 & 255);
        rest |= (code >> 24 & 127) << (7 * g);
      }
      put_u32(out + 66 + 4 * s, rest);
    }
  }

  void unpack(const std::byte* in, Grid& grid, Code* codes) const override {
    grid.d = get_fp16(in);
    for (int s = 0; s < 8; ++s) {
      const std::uint32_t rest = get_u32(in + 66 + 4 * s);
      grid.sub_scale[s] = std::int16_t(2 * (rest >> 28) + 1);
      for (int g = 0; g < 4; ++g) {
        const std::byte* points = in + 2 + 8 * s + 2 * g;
        codes[4 * s + g] = get_u8(points) | std::uint32_t(get_u8(points + 1)) << 12 |
                           even_signs(rest >> (7 * g)) << 24;
      }
    }
    make_effective(grid);
  }
};

}  // namespace

namespace registry {
const Format& format_iq3_xxs() {
  static const Iq3Xxs format;
  return format;
}
}  // namespace registry
}  // namespace nibble
