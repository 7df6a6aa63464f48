// Q4_K: 256 weights in 144 bytes, sub-blocks of 32. fp16 d; fp16 dmin; 12 bytes of 6-bit scales s
// and offsets m (k_scales.h); 128 bytes of 4-bit codes: of each 64 columns, byte i of 32 holds
// column i in its low half and column i + 32 in its high half. value = (d * s) * code - dmin * m.
#include "format/bits.h"
#include "format/columns.h"
#include "format/k_scales.h"
#include "format/levels.h"

namespace nibble {
namespace {

constexpr auto kLevels = consecutive_levels<0, 16>();

class Q4K final : public ColumnFormat<Q4K> {
 public:
  Q4K()
      : ColumnFormat({.id = "q4_k",
                      .block = 256,
                      .grain = 1,
                      .bytes = 144,
                      .ggml_type = 12,
                      .ggml_name = "Q4_K",
                      .layout = {.scales = Layout::Scales::nested,
                                 .sub = 32,
                                 .has_offset = true,
                                 .scale_min = 0,
                                 .scale_max = 63,
                                 .offset_max = 63,
                                 .levels = kLevels}}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_fp16(out, grid.d);
    put_fp16(out + 2, grid.dmin);
    put_k_scales(grid, out + 4);
    put_fields<4, 32>(codes, 256, out + 16);
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    grid.d = get_fp16(in);
    grid.dmin = get_fp16(in + 2);
    get_k_scales(in + 4, grid);
    get_fields<4, 32>(in + 16, 256, codes);
  }
};

}  // namespace

namespace registry {
const Format& format_q4_k() {
  static const Q4K format;
  return format;
}
}  // namespace registry
}  // namespace nibble
