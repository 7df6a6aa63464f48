// NVFP4 as compressed-tensors has it: 16 weights in 12 bytes. float32 scale d (there the quotient
// of an 8-bit float and a number for the whole matrix, over 2); then 4-bit floats as in MXFP4, the
// even column of a pair in the low half. value = d * level, the levels being twice the floats.
#include "format/bits.h"
#include "format/format.h"
#include "format/levels.h"

namespace nibble {
namespace {

class Nvfp4 final : public Format {
 public:
  Nvfp4()
      : Format({.id = "nvfp4",
                .block = 16,
                .grain = 1,
                .bytes = 12,
                .ggml_type = -1,
                .ggml_name = {},
                .layout = {.scales = Layout::Scales::single,
                           .number = Layout::Number::f32,
                           .sub = 16,
                           .levels = kFloat4Levels}}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_f32(out, grid.d);
    Code floats[16];
    for (int i = 0; i < 16; ++i) floats[i] = float4_bits(codes[i]);
    put_fields<4, 1>(floats, 16, out + 4);
  }

  void unpack(const std::byte* in, Grid& grid, Code* codes) const override {
    grid.d = get_f32(in);
    get_fields<4, 1>(in + 4, 16, codes);
    for (int i = 0; i < 16; ++i) codes[i] = float4_code(codes[i]);
    make_effective(grid);
  }
};

}  // namespace

namespace registry {
const Format& format_nvfp4() {
  static const Nvfp4 format;
  return format;
}
}  // namespace registry
}  // namespace nibble
