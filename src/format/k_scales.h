// The scales of Q4_K and Q5_K: 8 scales s and 8 offsets m of 6 bits each in 12 bytes.
//   bytes 0..3   s[i], and above it the upper 2 bits of s[i + 4]
//   bytes 4..7   m[i], and above it the upper 2 bits of m[i + 4]
//   bytes 8..11  the lower 4 bits of s[i + 4], and above them those of m[i + 4]
#pragma once

#include "format/bits.h"
#include "format/format.h"

namespace nibble {

inline void put_k_scales(const Grid& grid, std::byte* out) {
  const auto& s = grid.sub_scale;
  const auto& m = grid.sub_min;
  for (int i = 0; i < 4; ++i) {
    out[i] = std::byte(s[i] | s[i + 4] >> 4 << 6);
    out[i + 4] = std::byte(m[i] | m[i + 4] >> 4 << 6);
    out[i + 8] = std::byte((s[i + 4] & 15) | (m[i + 4] & 15) << 4);
  }
}

inline void get_k_scales(const std::byte* in, Grid& grid) {
  for (int i = 0; i < 4; ++i) {
    const int low = get_u8(in + i + 8);
    grid.sub_scale[i] = get_u8(in + i) & 63;
    grid.sub_min[i] = get_u8(in + i + 4) & 63;
    grid.sub_scale[i + 4] = std::int16_t((low & 15) | get_u8(in + i) >> 6 << 4);
    grid.sub_min[i + 4] = std::int16_t(low >> 4 | get_u8(in + i + 4) >> 6 << 4);
  }
}

}  // namespace nibble
