// Q2_K: 256 weights in 84 bytes, sub-blocks of 16. 16 bytes of scales, one a sub-block (low half:
// scale s, high half: offset m); 64 bytes of 2-bit codes: of each 128 columns, byte i of 32 holds
// columns i, i + 32, i + 64, i + 96 from its lowest bits up; fp16 d; fp16 dmin.
// value = (d * s) * code - dmin * m.
#include "format/bits.h"
#include "format/columns.h"
#include "format/levels.h"

namespace nibble {
namespace {

constexpr auto kLevels = consecutive_levels<0, 4>();

class Q2K final : public ColumnFormat<Q2K> {
 public:
  Q2K()
      : ColumnFormat({.id = "q2_k",
                      .block = 256,
                      .grain = 1,
                      .bytes = 84,
                      .ggml_type = 10,
                      .ggml_name = "Q2_K",
                      .layout = {.scales = Layout::Scales::nested,
                                 .sub = 16,
                                 .has_offset = true,
                                 .scale_min = 0,
                                 .scale_max = 15,
                                 .offset_max = 15,
                                 .levels = kLevels}}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    for (int s = 0; s < 16; ++s) out[s] = std::byte(grid.sub_scale[s] | grid.sub_min[s] << 4);
    put_fields<2, 32>(codes, 256, out + 16);
    put_fp16(out + 80, grid.d);
    put_fp16(out + 82, grid.dmin);
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    for (int s = 0; s < 16; ++s) {
      grid.sub_scale[s] = get_u8(in + s) & 15;
      grid.sub_min[s] = get_u8(in + s) >> 4;
    }
    get_fields<2, 32>(in + 16, 256, codes);
    grid.d = get_fp16(in + 80);
    grid.dmin = get_fp16(in + 82);
  }
};

}  // namespace

namespace registry {
const Format& format_q2_k() {
  static const Q2K format;
  return format;
}
}  // namespace registry
}  // namespace nibble
