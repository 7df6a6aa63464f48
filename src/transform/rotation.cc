#include "transform/rotation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>
#include <random>

namespace nibble {

Rotation::Rotation(std::uint32_t width)
    : power_(1u << std::countr_zero(width)), odd_(width / power_) {
  std::mt19937 random(1);
  for (std::uint32_t k = 0; k < width; ++k)
    signs_.push_back((random() & 1 ? 1 : -1) / std::sqrt(double(width)));
  for (std::uint32_t i = 0; i < odd_; ++i) {
    const double t = 2 * std::numbers::pi * i / odd_;
    hartley_.push_back(std::cos(t) + std::sin(t));
  }
}

/// x [width][kLanes], signs applied.
void Rotation::mix(double* x) const {
  for (std::size_t group = 0; group < odd_; ++group) {
    double* const begin = x + group * power_ * kLanes;
    for (std::size_t half = kLanes; half < power_ * kLanes; half *= 2)
      for (std::size_t i = 0; i < power_ * kLanes; i += 2 * half)
        for (std::size_t j = i; j < i + half; ++j) {
          const double a = begin[j], b = begin[j + half];
          begin[j] = a + b;
          begin[j + half] = a - b;
        }
  }
  if (odd_ == 1) return;
  const std::size_t stride = power_ * kLanes;
  std::vector<double> before(odd_ * kLanes);
  for (std::size_t p = 0; p < stride; p += kLanes) {
    for (std::size_t g = 0; g < odd_; ++g)
      std::copy_n(x + g * stride + p, kLanes, before.data() + g * kLanes);
    for (std::size_t i = 0; i < odd_; ++i) {
      double sum[kLanes] = {};
      for (std::size_t j = 0; j < odd_; ++j)
        for (std::size_t lane = 0; lane < kLanes; ++lane)
          sum[lane] += hartley_[i * j % odd_] * before[j * kLanes + lane];
      std::copy_n(sum, kLanes, x + i * stride + p);
    }
  }
}

void Rotation::turn(float* data, std::size_t step, std::size_t count, std::size_t next) const {
  std::vector<double> x(signs_.size() * kLanes);
  for (std::size_t v = 0; v < count; v += kLanes, data += kLanes * next) {
    const std::size_t lanes = std::min(kLanes, count - v);
    for (std::size_t k = 0; k < signs_.size(); ++k)
      for (std::size_t lane = 0; lane < lanes; ++lane)
        x[k * kLanes + lane] = signs_[k] * double(data[k * step + lane * next]);
    mix(x.data());
    for (std::size_t k = 0; k < signs_.size(); ++k)
      for (std::size_t lane = 0; lane < lanes; ++lane)
        data[k * step + lane * next] = float(x[k * kLanes + lane]);
  }
}

}  // namespace nibble
