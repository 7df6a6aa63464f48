// IQ1_S: 256 weights in 50 bytes, sub-blocks of 32. fp16 d; a byte a group of 8 columns, the lower
// 8 bits of its point; 2 bytes a sub-block: 3 bits a group, the upper bits of its point, 3 bits of
// scale s, and on top whether the levels are those of the second bank.
// value = (d * (2s + 1) / 8) * level.
#include "format/levels.h"
#include "format/odd_scales.h"
#include "format/points.h"

namespace nibble {
namespace {

constexpr Codebook kBook{.points = kIq1Points,
                         .width = 8,
                         .digit_bits = 2,
                         .values = kTernaryBanks,
                         .banks = 2,
                         .bank_columns = 32,
                         .signs = Codebook::Signs::none};

class Iq1S final : public Format {
 public:
  Iq1S()
      : Format({.id = "iq1_s",
                .block = 256,
                .grain = kGroup,
                .bytes = 50,
                .ggml_type = 19,
                .ggml_name = "IQ1_S",
                .layout = odd_scales_layout(32, 15, 0.125f, kTernaryLevels, &kBook)}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_fp16(out, grid.d);
    for (int s = 0; s < 8; ++s) {
      std::uint32_t high = std::uint32_t(grid.sub_scale[s] / 2) << 12 | codes[4 * s] >> 11 << 15;
      for (int g = 0; g < 4; ++g) {
        out[2 + 4 * s + g] = std::byte(codes[4 * s + g] & 255);
        high |= (codes[4 * s + g] >> 8 & 7) << (3 * g);
      }
      put_u16(out + 34 + 2 * s, std::uint16_t(high));
    }
  }

  void unpack(const std::byte* in, Grid& grid, Code* codes) const override {
    grid.d = get_fp16(in);
    for (int s = 0; s < 8; ++s) {
      const std::uint32_t high = get_u16(in + 34 + 2 * s);
      grid.sub_scale[s] = std::int16_t(2 * (high >> 12 & 7) + 1);
      for (int g = 0; g < 4; ++g)
        codes[4 * s + g] =
            get_u8(in + 2 + 4 * s + g) | (high >> (3 * g) & 7) << 8 | high >> 15 << 11;
    }
    make_effective(grid);
  }
};

}  // namespace

namespace registry {
const Format& format_iq1_s() {
  static const Iq1S format;
  return format;
}
}  // namespace registry
}  // namespace nibble
