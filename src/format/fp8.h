// 8-bit floats (OCP FP8 E4M3, finite values up to 448) with one scale for all columns of a row, or
// for 32 of them. Bytes of a block: the scale (bf16, or float32), then a byte a column: sign, 4
// bits of exponent (bias 7), 3 of mantissa. Codes are in the order of values: 0 is -448, 126 is -0,
// 127 is 0, 253 is 448. The two bytes that are no number decode to the largest of their sign. A row
// with one scale is blocks of 32 that repeat it.
#pragma once

#include <algorithm>
#include <array>

#include "format/bits.h"
#include "format/columns.h"
#include "format/levels.h"

namespace nibble {

class Fp8 final : public ColumnFormat<Fp8> {
 public:
  Fp8(std::string_view id, Layout::Number number, bool whole_row)
      : ColumnFormat({.id = id,
                      .block = kBlock,
                      .grain = 1,
                      .bytes = (number == Layout::Number::f32 ? 4u : 2u) + kBlock,
                      .ggml_type = -1,
                      .ggml_name = {},
                      .layout = {.scales = Layout::Scales::single,
                                 .number = number,
                                 .sub = kBlock,
                                 .whole_row = whole_row,
                                 .values = all_values()}}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    if (wide()) {
      put_f32(out, grid.d);
    } else {
      put_u16(out, f32_to_bf16(grid.d));
    }
    out += wide() ? 4 : 2;
    for (int i = 0; i < kBlock; ++i) out[i] = std::byte(fp8_bits(codes[i]));
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    grid.d = wide() ? get_f32(in) : bf16_to_f32(get_u16(in));
    in += wide() ? 4 : 2;
    for (int i = 0; i < kBlock; ++i) {
      const unsigned bits = get_u8(in + i), size = std::min(bits & 0x7f, unsigned(kLargest));
      codes[i] = Item(fp8_code((bits & 0x80) | size));
    }
  }

 private:
  static constexpr int kBlock = 32, kLargest = 126;

  bool wide() const { return layout().number == Layout::Number::f32; }

  static std::span<const float> all_values() {
    static const auto all = [] {
      std::array<float, 2 * (kLargest + 1)> out{};
      for (int i = 0; i <= kLargest; ++i) {
        out[std::size_t(kLargest - i)] = -e4m3_to_f32(std::uint8_t(i));
        out[std::size_t(kLargest + 1 + i)] = e4m3_to_f32(std::uint8_t(i));
      }
      return out;
    }();
    return all;
  }
};

}  // namespace nibble
