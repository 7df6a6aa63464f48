// MXFP4: 32 weights in 17 bytes. A byte e, the scale d = 2^(e - 128); then 16 bytes of 4-bit floats
// (sign, 2 bits of exponent, 1 of mantissa): byte i holds column i in its low half and column i +
// 16 in its high half. value = d * level, the levels being twice the floats: 0, 1, 2, 3, 4, 6, 8,
// 12, and the same below zero.
#include <algorithm>
#include <cmath>

#include "format/bits.h"
#include "format/columns.h"
#include "format/levels.h"

namespace nibble {
namespace {

class Mxfp4 final : public ColumnFormat<Mxfp4> {
 public:
  Mxfp4()
      : ColumnFormat({.id = "mxfp4",
                      .block = 32,
                      .grain = 1,
                      .bytes = 17,
                      .ggml_type = 39,
                      .ggml_name = "MXFP4",
                      .layout = {.scales = Layout::Scales::single,
                                 .number = Layout::Number::power,
                                 .sub = 32,
                                 .levels = kFloat4Levels}}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    out[0] = std::byte(grid.d > 0 ? std::clamp(std::ilogb(grid.d) + 128, 0, 255) : 0);
    Code floats[32];
    for (int i = 0; i < 32; ++i) floats[i] = float4_bits(codes[i]);
    put_fields<4, 16>(floats, 32, out + 1);
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    grid.d = std::ldexp(1.0f, int(get_u8(in)) - 128);
    get_fields<4, 16>(in + 1, 32, codes);
    for (int i = 0; i < 32; ++i) codes[i] = Item(float4_code(codes[i]));
  }
};

}  // namespace

namespace registry {
const Format& format_mxfp4() {
  static const Mxfp4 format;
  return format;
}
}  // namespace registry
}  // namespace nibble
