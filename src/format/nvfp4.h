// NVFP4 as compressed-tensors has it: blocks of 16 weights. A scale d; then 4-bit floats as in
// MXFP4, the even column of a pair in the low half. value = d * level, the levels being twice the
// floats. There d is the quotient of an 8-bit float and a number for the whole matrix, over 2: here
// it is float32 (12 bytes a block), or where that number is 512 the 8-bit float itself (9 bytes).
#pragma once

#include "format/bits.h"
#include "format/columns.h"
#include "format/levels.h"

namespace nibble {

class Nvfp4 final : public ColumnFormat<Nvfp4> {
 public:
  Nvfp4(std::string_view id, Layout::Number number)
      : ColumnFormat({.id = id,
                      .block = 16,
                      .grain = 1,
                      .bytes = (number == Layout::Number::f32 ? 4u : 1u) + 8,
                      .ggml_type = -1,
                      .ggml_name = {},
                      .layout = {.scales = Layout::Scales::single,
                                 .number = number,
                                 .sub = 16,
                                 .levels = kFloat4Levels}}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    if (wide())
      put_f32(out, grid.d);
    else
      out[0] = std::byte(f32_to_e4m3(grid.d * 1024));
    Code floats[16];
    for (int i = 0; i < 16; ++i) floats[i] = float4_bits(codes[i]);
    put_fields<4, 1>(floats, 16, out + spec().bytes - 8);
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    grid.d = wide() ? get_f32(in) : e4m3_to_f32(get_u8(in)) / 1024;
    get_fields<4, 1>(in + spec().bytes - 8, 16, codes);
    for (int i = 0; i < 16; ++i) codes[i] = Item(float4_code(codes[i]));
  }

 private:
  bool wide() const { return layout().number == Layout::Number::f32; }
};

}  // namespace nibble
