// IQ2_S: 256 weights in 82 bytes, sub-blocks of 16. fp16 d; a byte a group of 8 columns, the lower
// 8 bits of its point; a byte a group, the signs of its columns; 8 bytes with the upper 2 bits of
// the points, group 0 lowest; 8 bytes of 4-bit scales s, sub-block 0 lowest. value = (d * (2s + 1)
// / 8) * level.
#include "format/levels.h"
#include "format/odd_scales.h"
#include "format/points.h"

namespace nibble {
namespace {

constexpr Codebook kBook{.points = kIq2SPoints,
                         .width = 8,
                         .digit_bits = 2,
                         .values = kThreeSizes,
                         .signs = Codebook::Signs::free};

class Iq2S final : public Format {
 public:
  Iq2S()
      : Format({.id = "iq2_s",
                .block = 256,
                .grain = kGroup,
                .bytes = 82,
                .ggml_type = 22,
                .ggml_name = "IQ2_S",
                .layout = odd_scales_layout(16, 31, 0.125f, kSixLevels, &kBook)}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_fp16(out, grid.d);
    for (int g = 0; g < 32; ++g) {
      out[2 + g] = std::byte(codes[g] & 255);
      out[34 + g] = std::byte(codes[g] >> 24);
    }
    put_fields<2, 1, 8>(codes, 32, out + 66);
    put_odd_scales<16>(grid, out + 74);
  }

  void unpack(const std::byte* in, Grid& grid, Code* codes) const override {
    grid.d = get_fp16(in);
    for (int g = 0; g < 32; ++g)
      codes[g] = get_u8(in + 2 + g) | std::uint32_t(get_u8(in + 34 + g)) << 24;
    get_fields<2, 1, 8>(in + 66, 32, codes);
    get_odd_scales<16>(in + 74, grid);
    make_effective(grid);
  }
};

}  // namespace

namespace registry {
const Format& format_iq2_s() {
  static const Iq2S format;
  return format;
}
}  // namespace registry
}  // namespace nibble
