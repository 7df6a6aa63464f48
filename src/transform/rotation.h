// Orthogonal matrices that mix every channel with every other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nibble {

/// Channels of a network that may be turned without changing what it computes.
enum class Channels {
  values,    // of a head of attention
  residual,  // of the stream that all blocks read and add to
};

/// R = (C x H) D: random signs D, Sylvester's Hadamard matrix H of the largest power of two that
/// divides the width, and Hartley's matrix C, c_ij = cos t + sin t with t = 2 pi i j / odd, of the
/// odd rest, where no entry is zero. All entries of R are at most sqrt(2 / width) in size.
class Rotation {
 public:
  explicit Rotation(std::uint32_t width);

  std::uint32_t width() const { return std::uint32_t(signs_.size()); }
  /// y_i = sum_k r_ik x_k of each of `count` vectors, in place: x_k of vector v is
  /// data[k * step + v * next]. Computed in double, so that every value is rounded once.
  void turn(float* data, std::size_t step, std::size_t count, std::size_t next) const;

 private:
  static constexpr std::size_t kLanes = 8;  // vectors at a time
  void mix(double* x) const;

  std::uint32_t power_, odd_;
  std::vector<double> signs_;    // 1 or -1, times the norm of all rows
  std::vector<double> hartley_;  // cos + sin of 2 pi i / odd
};

}  // namespace nibble
