// TQ2_0: 256 weights in 66 bytes. 64 bytes of 2-bit codes: of each 128 columns, byte i of 32 holds
// columns i, i + 32, i + 64, i + 96 from its lowest bits up; fp16 d. value = d * (code - 1): made
// for ternary weights, but all four codes have their level in every runtime.
#include "format/bits.h"
#include "format/columns.h"
#include "format/levels.h"

namespace nibble {
namespace {

constexpr auto kLevels = consecutive_levels<-1, 4>();

class Tq2_0 final : public ColumnFormat<Tq2_0> {
 public:
  Tq2_0()
      : ColumnFormat(
            {.id = "tq2_0",
             .block = 256,
             .grain = 1,
             .bytes = 66,
             .ggml_type = 35,
             .ggml_name = "TQ2_0",
             .layout = {.scales = Layout::Scales::single, .sub = 256, .levels = kLevels}}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_fields<2, 32>(codes, 256, out);
    put_fp16(out + 64, grid.d);
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    get_fields<2, 32>(in, 256, codes);
    grid.d = get_fp16(in + 64);
  }
};

}  // namespace

namespace registry {
const Format& format_tq2_0() {
  static const Tq2_0 format;
  return format;
}
}  // namespace registry
}  // namespace nibble
