// TQ1_0: 256 weights in 54 bytes. 48 + 4 bytes of codes 0, 1, 2 (digits of base 3), then fp16 d.
// Byte i of the first 32 holds columns i, i + 32, ... i + 128; byte i of the next 16 columns i, i +
// 16,
// ... i + 64 of the next 80; byte i of the last 4 columns i, i + 4, i + 8, i + 12 of the rest. The
// digits, the first highest, are a number below 3^5 stored as a fraction: b / 256 >= n / 243, so
// that the next digit is what 3 * b carries beyond 8 bits. value = d * (code - 1).
#include "format/bits.h"
#include "format/columns.h"
#include "format/levels.h"

namespace nibble {
namespace {

constexpr auto kLevels = consecutive_levels<-1, 3>();

/// `bytes` bytes with `digits` digits each, for the columns from `columns` on.
struct Run {
  int columns, bytes, digits;
};
constexpr Run kRuns[] = {{0, 32, 5}, {160, 16, 5}, {240, 4, 4}};

class Tq1_0 final : public ColumnFormat<Tq1_0> {
 public:
  Tq1_0()
      : ColumnFormat(
            {.id = "tq1_0",
             .block = 256,
             .grain = 1,
             .bytes = 54,
             .ggml_type = 34,
             .ggml_name = "TQ1_0",
             .layout = {.scales = Layout::Scales::single, .sub = 256, .levels = kLevels}}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    const Code* at = codes;
    for (const Run& run : kRuns)
      for (int i = 0; i < run.bytes; ++i) {
        unsigned number = 0;
        for (int k = 0; k < 5; ++k)
          number =
              3 * number + (k < run.digits ? unsigned(at[run.columns + k * run.bytes + i]) : 0);
        *out++ = std::byte((number * 256 + 242) / 243);
      }
    put_fp16(out, grid.d);
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    for (const Run& run : kRuns)
      for (int i = 0; i < run.bytes; ++i) {
        unsigned fraction = get_u8(in++);
        for (int k = 0; k < run.digits; ++k, fraction = 3 * fraction & 255)
          codes[run.columns + k * run.bytes + i] = Item(3 * fraction >> 8);
      }
    grid.d = get_fp16(in);
  }
};

}  // namespace

namespace registry {
const Format& format_tq1_0() {
  static const Tq1_0 format;
  return format;
}
}  // namespace registry
}  // namespace nibble
