// What the i-quants share: scales of sub-blocks that are odd integers, 2s + 1, and layouts of them.
#pragma once

#include "format/bits.h"
#include "format/format.h"

namespace nibble {

/// Sub-blocks of `sub` columns with odd scales up to `scale_max`, groups of columns from `book`.
constexpr Layout odd_scales_layout(int sub, int scale_max, float unit,
                                   std::span<const std::int8_t> levels, const Codebook* book) {
  Layout layout;
  layout.scales = Layout::Scales::nested;
  layout.sub = sub;
  layout.scale_min = 1, layout.scale_max = scale_max, layout.scale_step = 2;
  layout.unit = unit;
  layout.levels = levels;
  layout.codebook = book;
  return layout;
}

/// s of kSubs sub-blocks in 4 bits each, sub-block 0 lowest.
template <int kSubs>
void put_odd_scales(const Grid& grid, std::byte* out) {
  std::uint8_t scales[kSubs];
  for (int s = 0; s < kSubs; ++s) scales[s] = std::uint8_t(grid.sub_scale[s] / 2);
  put_fields<4, 1>(scales, kSubs, out);
}

template <int kSubs>
void get_odd_scales(const std::byte* in, Grid& grid) {
  std::uint8_t scales[kSubs];
  get_fields<4, 1>(in, kSubs, scales);
  for (int s = 0; s < kSubs; ++s) grid.sub_scale[s] = std::int16_t(2 * scales[s] + 1);
}

}  // namespace nibble
