// Blocks of 64 weights, each one of 16 floats times the scale of the block, a float32.
#pragma once

#include <array>

#include "format/bits.h"
#include "format/columns.h"

namespace nibble {

class FourBitFloats final : public ColumnFormat<FourBitFloats> {
 public:
  /// `values`: ascending, and as long-lived as the format.
  FourBitFloats(std::string_view id, const std::array<float, 16>& values)
      : ColumnFormat({.id = id,
                      .block = 64,
                      .grain = 1,
                      .bytes = 36,
                      .ggml_type = -1,
                      .ggml_name = {},
                      .layout = {.scales = Layout::Scales::single,
                                 .number = Layout::Number::f32,
                                 .sub = 64,
                                 .values = values}}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_f32(out, grid.d);
    put_fields<4, 1>(codes, 64, out + 4);
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    grid.d = get_f32(in);
    get_fields<4, 1>(in + 4, 64, codes);
  }
};

}  // namespace nibble
