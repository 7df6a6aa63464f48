// Q5_0: 32 weights in 22 bytes. fp16 scale d; 4 bytes with the top bits of the codes, bit i for
// column i; 16 bytes with their lower 4 bits: byte i holds column i in its low half and column
// i + 16 in its high half. value = d * (code - 16).
#include "format/bits.h"
#include "format/columns.h"
#include "format/levels.h"

namespace nibble {
namespace {

constexpr auto kLevels = consecutive_levels<-16, 32>();

class Q5_0 final : public ColumnFormat<Q5_0> {
 public:
  Q5_0()
      : ColumnFormat({.id = "q5_0",
                      .block = 32,
                      .grain = 1,
                      .bytes = 22,
                      .ggml_type = 6,
                      .ggml_name = "Q5_0",
                      .layout = {.scales = Layout::Scales::single, .sub = 32, .levels = kLevels}}) {
  }

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_fp16(out, grid.d);
    put_fields<1, 1, 4>(codes, 32, out + 2);
    put_fields<4, 16>(codes, 32, out + 6);
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    grid.d = get_fp16(in);
    get_fields<4, 16>(in + 6, 32, codes);
    get_fields<1, 1, 4>(in + 2, 32, codes);
  }
};

}  // namespace

namespace registry {
const Format& format_q5_0() {
  static const Q5_0 format;
  return format;
}
}  // namespace registry
}  // namespace nibble
