// IQ4_NL: 32 weights in 18 bytes. fp16 scale d, then 16 bytes of 4-bit codes: byte i holds column i
// in its low half and column i + 16 in its high half. value = d * level[code].
#include "format/bits.h"
#include "format/columns.h"
#include "format/levels.h"

namespace nibble {
namespace {

class Iq4Nl final : public ColumnFormat<Iq4Nl> {
 public:
  Iq4Nl()
      : ColumnFormat(
            {.id = "iq4_nl",
             .block = 32,
             .grain = 1,
             .bytes = 18,
             .ggml_type = 20,
             .ggml_name = "IQ4_NL",
             .layout = {.scales = Layout::Scales::single, .sub = 32, .levels = kIq4Levels}}) {}

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
const Format& format_iq4_nl() {
  static const Iq4Nl format;
  return format;
}
}  // namespace registry
}  // namespace nibble
