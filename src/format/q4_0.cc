// Q4_0: 32 weights in 18 bytes. fp16 scale d, then 16 bytes of 4-bit codes: byte i holds column i
// in its low half and column i + 16 in its high half. value = d * (code - 8).
#include "format/bits.h"
#include "format/columns.h"
#include "format/levels.h"

namespace nibble {
namespace {

constexpr auto kLevels = consecutive_levels<-8, 16>();

class Q4_0 final : public ColumnFormat<Q4_0> {
 public:
  Q4_0()
      : ColumnFormat({.id = "q4_0",
                      .block = 32,
                      .grain = 1,
                      .bytes = 18,
                      .ggml_type = 2,
                      .ggml_name = "Q4_0",
                      .layout = {.scales = Layout::Scales::single, .sub = 32, .levels = kLevels}}) {
  }

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_fp16(out, grid.d);
    put_fields<4, 16>(codes, 32, out + 2);
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    grid.d = get_fp16(in);
    get_fields<4, 16>(in + 2, 32, codes);
  }
};

}  // namespace

namespace registry {
const Format& format_q4_0() {
  static const Q4_0 format;
  return format;
}
}  // namespace registry
}  // namespace nibble
