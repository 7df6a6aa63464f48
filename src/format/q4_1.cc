// Q4_1: 32 weights in 20 bytes. fp16 scale d, fp16 offset m, then 16 bytes of 4-bit codes: byte i
// holds column i in its low half and column i + 16 in its high half. value = d * code + m.
#include "format/bits.h"
#include "format/columns.h"
#include "format/levels.h"

namespace nibble {
namespace {

constexpr auto kLevels = consecutive_levels<0, 16>();

class Q4_1 final : public ColumnFormat<Q4_1> {
 public:
  Q4_1()
      : ColumnFormat({.id = "q4_1",
                      .block = 32,
                      .grain = 1,
                      .bytes = 20,
                      .ggml_type = 3,
                      .ggml_name = "Q4_1",
                      .layout = {.scales = Layout::Scales::single,
                                 .sub = 32,
                                 .has_offset = true,
                                 .levels = kLevels}}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_fp16(out, grid.d);
    put_fp16(out + 2, grid.dmin);
    put_fields<4, 16>(codes, 32, out + 4);
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    grid.d = get_fp16(in);
    grid.dmin = get_fp16(in + 2);
    get_fields<4, 16>(in + 4, 32, codes);
  }
};

}  // namespace

namespace registry {
const Format& format_q4_1() {
  static const Q4_1 format;
  return format;
}
}  // namespace registry
}  // namespace nibble
