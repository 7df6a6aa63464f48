// Q5_1: 32 weights in 24 bytes. fp16 scale d, fp16 offset m; 4 bytes with the top bits of the
// codes, bit i for column i; 16 bytes with their lower 4 bits: byte i holds column i in its low
// half and column i + 16 in its high half. value = d * code + m.
#include "format/bits.h"
#include "format/columns.h"
#include "format/levels.h"

namespace nibble {
namespace {

constexpr auto kLevels = consecutive_levels<0, 32>();

class Q5_1 final : public ColumnFormat<Q5_1> {
 public:
  Q5_1()
      : ColumnFormat({.id = "q5_1",
                      .block = 32,
                      .grain = 1,
                      .bytes = 24,
                      .ggml_type = 7,
                      .ggml_name = "Q5_1",
                      .layout = {.scales = Layout::Scales::single,
                                 .sub = 32,
                                 .has_offset = true,
                                 .levels = kLevels}}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_fp16(out, grid.d);
    put_fp16(out + 2, grid.dmin);
    put_fields<1, 1, 4>(codes, 32, out + 4);
    put_fields<4, 16>(codes, 32, out + 8);
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    grid.d = get_fp16(in);
    grid.dmin = get_fp16(in + 2);
    get_fields<4, 16>(in + 8, 32, codes);
    get_fields<1, 1, 4>(in + 4, 32, codes);
  }
};

}  // namespace

namespace registry {
const Format& format_q5_1() {
  static const Q5_1 format;
  return format;
}
}  // namespace registry
}  // namespace nibble
