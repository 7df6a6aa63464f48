// IQ1_M: 256 weights in 56 bytes, sub-blocks of 16. A byte a group of 8 columns, the lower 8 bits
// of its point; 4 bits a group, group 0 lowest: the upper 3 bits of its point, and on top whether
// its levels are those of the second bank; four times 2 bytes: 3 bits a sub-block of scale s, and
// on top the next 4 bits of fp16 d, lowest first. value = (d * (2s + 1) / 8) * level.
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
                         .signs = Codebook::Signs::none};

class Iq1M final : public Format {
 public:
  Iq1M()
      : Format({.id = "iq1_m",
                .block = 256,
                .grain = kGroup,
                .bytes = 56,
                .ggml_type = 29,
                .ggml_name = "IQ1_M",
                .layout = odd_scales_layout(16, 15, 0.125f, kTernaryLevels, &kBook)}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    for (int g = 0; g < 32; ++g) out[g] = std::byte(codes[g] & 255);
    put_fields<4, 1, 8>(codes, 32, out + 32);
    const std::uint32_t d = f32_to_fp16(grid.d);
    for (int w = 0; w < 4; ++w) {
      std::uint32_t word = (d >> (4 * w) & 15) << 12;
      for (int i = 0; i < 4; ++i) word |= std::uint32_t(grid.sub_scale[4 * w + i] / 2) << (3 * i);
      put_u16(out + 48 + 2 * w, std::uint16_t(word));
    }
  }

  void unpack(const std::byte* in, Grid& grid, Code* codes) const override {
    for (int g = 0; g < 32; ++g) codes[g] = get_u8(in + g);
    get_fields<4, 1, 8>(in + 32, 32, codes);
    std::uint32_t d = 0;
    for (int w = 0; w < 4; ++w) {
      const std::uint32_t word = get_u16(in + 48 + 2 * w);
      d |= word >> 12 << (4 * w);
      for (int i = 0; i < 4; ++i)
        grid.sub_scale[4 * w + i] = std::int16_t(2 * (word >> (3 * i) & 7) + 1);
    }
    grid.d = fp16_to_f32(std::uint16_t(d));
    make_effective(grid);
  }
};

}  // namespace

namespace registry {
const Format& format_iq1_m() {
  static const Iq1M format;
  return format;
}
}  // namespace registry
}  // namespace nibble
