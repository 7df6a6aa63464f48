#include "base/transpose.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace nibble {
namespace {

template <class T>
void turn_over(int rows, int columns) {
  std::vector<T> in(std::size_t(rows * columns)), out(std::size_t(rows * columns));
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = T(7 * i + 1);
  transpose(
      rows, columns, [&](int r) { return in.data() + r * columns; }, out.data(), std::size_t(rows));
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c)
      ASSERT_EQ(out[std::size_t(c * rows + r)], in[std::size_t(r * columns + c)])
          << rows << " x " << columns << ", row " << r << ", column " << c;
}

TEST(Transpose, EveryNumberComesToItsPlace) {
  for (int rows = 1; rows <= 33; ++rows)
    for (int columns = 1; columns <= 33; ++columns) {
      turn_over<std::uint8_t>(rows, columns);
      turn_over<std::uint32_t>(rows, columns);
      turn_over<float>(rows, columns);
    }
}

}  // namespace
}  // namespace nibble
