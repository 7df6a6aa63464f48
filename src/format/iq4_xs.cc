// IQ4_XS: 256 weights in 136 bytes, sub-blocks of 32. fp16 d; 2 bytes with the upper 2 bits of the
// scales s (biased by 32), sub-block 0 lowest; 4 bytes with their lower 4 bits, sub-block 0 lowest;
// 128 bytes of 4-bit codes: of each 32 columns, byte i of 16 holds column i in its low half and
// column i + 16 in its high half. value = (d * s) * level[code].
#include "format/bits.h"
#include "format/columns.h"
#include "format/levels.h"

namespace nibble {
namespace {

class Iq4Xs final : public ColumnFormat<Iq4Xs> {
 public:
  Iq4Xs()
      : ColumnFormat({.id = "iq4_xs",
                      .block = 256,
                      .grain = 1,
                      .bytes = 136,
                      .ggml_type = 23,
                      .ggml_name = "IQ4_XS",
                      .layout = {.scales = Layout::Scales::nested,
                                 .sub = 32,
                                 .scale_min = -32,
                                 .scale_max = 31,
                                 .levels = kIq4Levels}}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    std::uint8_t scales[8];
    for (int s = 0; s < 8; ++s) scales[s] = std::uint8_t(grid.sub_scale[s] + 32);
    put_fp16(out, grid.d);
    put_fields<2, 1, 4>(scales, 8, out + 2);
    put_fields<4, 1>(scales, 8, out + 4);
    put_fields<4, 16>(codes, 256, out + 8);
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    std::uint8_t scales[8];
    get_fields<4, 1>(in + 4, 8, scales);
    get_fields<2, 1, 4>(in + 2, 8, scales);
    for (int s = 0; s < 8; ++s) grid.sub_scale[s] = std::int16_t(scales[s] - 32);
    grid.d = get_fp16(in);
    get_fields<4, 16>(in + 8, 256, codes);
  }
};

}  // namespace

namespace registry {
const Format& format_iq4_xs() {
  static const Iq4Xs format;
  return format;
}
}  // namespace registry
}  // namespace nibble
