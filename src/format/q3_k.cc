// Q3_K: 256 weights in 110 bytes, sub-blocks of 16. 32 bytes with the top bits of the codes: byte i
// holds columns i, i + 32, ..., i + 224 from its lowest bit up; 64 bytes with their lower 2 bits:
// of each 128 columns, byte i of 32 holds columns i, i + 32, i + 64, i + 96; 12 bytes of 6-bit
// scales s (biased by 32): bytes 0..7 hold the lower 4 bits of scales i and i + 8, bytes 8..11 the
// upper 2 bits of scales i, i + 4, i + 8, i + 12; fp16 d. value = (d * s) * (code - 4).
#include "format/bits.h"
#include "format/columns.h"
#include "format/levels.h"

namespace nibble {
namespace {

constexpr auto kLevels = consecutive_levels<-4, 8>();

class Q3K final : public ColumnFormat<Q3K> {
 public:
  Q3K()
      : ColumnFormat({.id = "q3_k",
                      .block = 256,
                      .grain = 1,
                      .bytes = 110,
                      .ggml_type = 11,
                      .ggml_name = "Q3_K",
                      .layout = {.scales = Layout::Scales::nested,
                                 .sub = 16,
                                 .scale_min = -32,
                                 .scale_max = 31,
                                 .levels = kLevels}}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    std::uint8_t scales[16];
    for (int s = 0; s < 16; ++s) scales[s] = std::uint8_t(grid.sub_scale[s] + 32);
    put_fields<1, 32, 2>(codes, 256, out);
    put_fields<2, 32>(codes, 256, out + 32);
    put_fields<4, 8>(scales, 16, out + 96);
    put_fields<2, 4, 4>(scales, 16, out + 104);
    put_fp16(out + 108, grid.d);
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    std::uint8_t scales[16];
    get_fields<4, 8>(in + 96, 16, scales);
    get_fields<2, 4, 4>(in + 104, 16, scales);
    for (int s = 0; s < 16; ++s) grid.sub_scale[s] = std::int16_t(scales[s] - 32);
    get_fields<2, 32>(in + 32, 256, codes);
    get_fields<1, 32, 2>(in, 256, codes);
    grid.d = get_fp16(in + 108);
  }
};

}  // namespace

namespace registry {
const Format& format_q3_k() {
  static const Q3K format;
  return format;
}
}  // namespace registry
}  // namespace nibble
