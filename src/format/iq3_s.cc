// IQ3_S: 256 weights in 110 bytes, sub-blocks of 32. fp16 d; a byte every 4 columns, the lower 8
// bits of their point; 8 bytes with the upper bit of the points, the first lowest; a bit a column,
// its sign; 4 bytes of 4-bit scales s, sub-block 0 lowest. value = (d * (2s + 1)) * level.
#include "format/levels.h"
#include "format/odd_scales.h"
#include "format/points.h"

namespace nibble {
namespace {

constexpr std::array<std::int8_t, 8> kSizes = {1, 3, 5, 7, 9, 11, 13, 15};
constexpr auto kLevels = both_signs(kSizes);
constexpr Codebook kBook{.points = kIq3SPoints,
                         .width = 4,
                         .digit_bits = 3,
                         .values = kSizes,
                         .signs = Codebook::Signs::free};

class Iq3S final : public Format {
 public:
  Iq3S()
      : Format({.id = "iq3_s",
                .block = 256,
                .grain = kGroup,
                .bytes = 110,
                .ggml_type = 21,
                .ggml_name = "IQ3_S",
                .layout = odd_scales_layout(32, 31, 1, kLevels, &kBook)}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_fp16(out, grid.d);
    std::uint16_t points[64];
    for (int g = 0; g < 32; ++g) {
      points[2 * g] = codes[g] & 511;
      points[2 * g + 1] = codes[g] >> 12 & 511;
      out[74 + g] = std::byte(codes[g] >> 24);
    }
    put_fields<8, 1>(points, 64, out + 2);
    put_fields<1, 1, 8>(points, 64, out + 66);
    put_odd_scales<8>(grid, out + 106);
  }

  void unpack(const std::byte* in, Grid& grid, Code* codes) const override {
    grid.d = get_fp16(in);
    std::uint16_t points[64];
    get_fields<8, 1>(in + 2, 64, points);
    get_fields<1, 1, 8>(in + 66, 64, points);
    for (int g = 0; g < 32; ++g)
      codes[g] = points[2 * g] | std::uint32_t(points[2 * g + 1]) << 12 |
                 std::uint32_t(get_u8(in + 74 + g)) << 24;
    get_odd_scales<8>(in + 106, grid);
    make_effective(grid);
  }
};

}  // namespace

namespace registry {
const Format& format_iq3_s() {
  static const Iq3S format;
  return format;
}
}  // namespace registry
}  // namespace nibble
