// Q6_K: 256 weights in 210 bytes, sub-blocks of 16. 128 bytes with the lower 4 bits of the codes:
// of each 128 columns, byte i of 64 holds column i in its low half and column i + 64 in its high
// half; 64 bytes with their upper 2 bits: of each 128 columns, byte i of 32 holds columns i, i +
// 32, i + 64, i + 96; 16 signed bytes of scales s; fp16 d. value = (d * s) * (code - 32).
#include "format/bits.h"
#include "format/columns.h"
#include "format/levels.h"

namespace nibble {
namespace {

constexpr auto kLevels = consecutive_levels<-32, 64>();

class Q6K final : public ColumnFormat<Q6K> {
 public:
  Q6K()
      : ColumnFormat({.id = "q6_k",
                      .block = 256,
                      .grain = 1,
                      .bytes = 210,
                      .ggml_type = 14,
                      .ggml_name = "Q6_K",
                      .layout = {.scales = Layout::Scales::nested,
                                 .sub = 16,
                                 .scale_min = -128,
                                 .scale_max = 127,
                                 .levels = kLevels}}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_fields<4, 64>(codes, 256, out);
    put_fields<2, 32, 4>(codes, 256, out + 128);
    for (int s = 0; s < 16; ++s) out[192 + s] = std::byte(grid.sub_scale[s] & 255);
    put_fp16(out + 208, grid.d);
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    get_fields<4, 64>(in, 256, codes);
    get_fields<2, 32, 4>(in + 128, 256, codes);
    for (int s = 0; s < 16; ++s) grid.sub_scale[s] = std::int8_t(in[192 + s]);
    grid.d = get_fp16(in + 208);
  }
};

}  // namespace

namespace registry {
const Format& format_q6_k() {
  static const Q6K format;
  return format;
}
}  // namespace registry
}  // namespace nibble
