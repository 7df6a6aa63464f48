// Q8_0: 32 weights in 34 bytes. fp16 scale d, then 32 signed bytes. value = d * byte. The byte -128
// is decoded, but never written: some runtimes take the absolute value of a byte.
#include "format/bits.h"
#include "format/columns.h"
#include "format/levels.h"

namespace nibble {
namespace {

constexpr auto kLevels = consecutive_levels<-128, 256>();

class Q8_0 final : public ColumnFormat<Q8_0> {
 public:
  Q8_0()
      : ColumnFormat({.id = "q8_0",
                      .block = 32,
                      .grain = 1,
                      .bytes = 34,
                      .ggml_type = 8,
                      .ggml_name = "Q8_0",
                      .layout = {.scales = Layout::Scales::single,
                                 .sub = 32,
                                 .levels = kLevels,
                                 .first_code = 1}}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_fp16(out, grid.d);
    for (int i = 0; i < 32; ++i) out[2 + i] = std::byte(codes[i] ^ 128u);
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    grid.d = get_fp16(in);
    for (int i = 0; i < 32; ++i) codes[i] = Item(get_u8(in + 2 + i) ^ 128);
  }
};

}  // namespace

namespace registry {
const Format& format_q8_0() {
  static const Q8_0 format;
  return format;
}
}  // namespace registry
}  // namespace nibble
