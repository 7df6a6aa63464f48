// A matrix to measure products with.
#pragma once

#include <cstdint>
#include <vector>

#include "kernel/matrix.h"

namespace nibble {

inline constexpr std::int64_t kColumns = 2048;

inline float noise(std::uint32_t& state) {
  state = state * 1664525u + 1013904223u;
  return float(state >> 8) * 0x1p-23f - 1;
}

inline Matrix random_matrix(const Format& format, std::int64_t rows, const char* isa) {
  std::uint32_t state = 1;
  std::vector<std::byte> bytes(std::size_t(rows) * format.row_bytes(kColumns));
  std::vector<float> point(std::size_t(format.spec().grain));
  std::vector<Code> codes(std::size_t(format.block()) / point.size());
  Grid grid;
  grid.d = grid.dmin = 0.0078125f;
  grid.sub_scale.fill(3), grid.sub_min.fill(5);
  format.make_effective(grid);
  // A few different blocks are enough: speed does not depend on the values.
  for (std::size_t b = 0; b < bytes.size(); b += format.spec().bytes) {
    if (b < 64 * format.spec().bytes)
      for (Code& code : codes) {
        for (float& value : point) value = noise(state);
        code = format.round(grid, 0, point.data());
      }
    format.pack(grid, codes.data(), bytes.data() + b);
  }
  ThreadPool pool(1);
  return Matrix::pack(format, rows, kColumns, bytes, pool, isa).value();
}

}  // namespace nibble
