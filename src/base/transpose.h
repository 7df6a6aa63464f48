// Rows of numbers that become columns.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

namespace nibble {

/// A square of numbers, each row a vector of 16 bytes.
template <class T>
class Square {
 public:
  static constexpr int kSide = 16 / int(sizeof(T));

  /// row(l): where row l begins
  template <class Row>
  explicit Square(const Row& row) {
    for (int l = 0; l < kSide; ++l) std::memcpy(&x_[l], row(l), sizeof(Vector));
  }

  /// Vectors that are half of all apart are interleaved, as often as it takes to come round.
  void transpose() {
    for (int done = 1; done < kSide; done *= 2) {
      Vector next[kSide];
      for (int i = 0; i < kSide / 2; ++i) {
        next[2 * i] = interleave<0>(x_[i], x_[i + kSide / 2], kIndices);
        next[2 * i + 1] = interleave<kSide / 2>(x_[i], x_[i + kSide / 2], kIndices);
      }
      std::memcpy(x_, next, sizeof x_);
    }
  }

  void store(T* out, std::size_t stride) const {
    for (int l = 0; l < kSide; ++l)
      std::memcpy(out + std::size_t(l) * stride, &x_[l], sizeof(Vector));
  }

 private:
  using Vector [[gnu::vector_size(16)]] = T;
  static constexpr std::make_integer_sequence<int, kSide> kIndices{};

  template <int kFirst, int... kIndex>
  static Vector interleave(Vector a, Vector b, std::integer_sequence<int, kIndex...>) {
    return __builtin_shufflevector(a, b, (kFirst + kIndex / 2 + kIndex % 2 * kSide)...);
  }

  Vector x_[kSide];
};

/// out[c * stride + r] = row(r)[c]
template <class T, class Row>
void transpose(int rows, std::ptrdiff_t columns, const Row& row, T* out, std::size_t stride) {
  constexpr int n = Square<T>::kSide;
  constexpr std::ptrdiff_t kRun = 64 / sizeof(T);  // a cache line, which is read at one go
  const int square_rows = rows / n * n;
  const std::ptrdiff_t square_columns = columns / n * n;
  for (std::ptrdiff_t begin = 0; begin < square_columns; begin += kRun)
    for (int r = 0; r < square_rows; r += n)
      for (std::ptrdiff_t c = begin; c < std::min(begin + kRun, square_columns); c += n) {
        Square<T> square([&](int l) { return row(r + l) + c; });
        square.transpose();
        square.store(out + std::size_t(c) * stride + r, stride);
      }
  for (int r = 0; r < rows; ++r)
    for (std::ptrdiff_t c = r < square_rows ? square_columns : 0; c < columns; ++c)
      std::memcpy(out + std::size_t(c) * stride + std::size_t(r), row(r) + c, sizeof(T));
}

}  // namespace nibble
