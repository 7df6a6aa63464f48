#include "eval/metrics.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace nibble {
namespace {

/// exp(x) for x <= 0, relative error below 3e-7: 2^n times a polynomial in the rest. Written so
/// that compilers turn loops over it into vector code; exp of the C library is the whole cost of an
/// evaluation otherwise.
inline float exp_negative(float x) {
  x = std::max(x, -87.0f);
  const float n = std::nearbyintf(x * 1.44269504f);
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float e = p * r * r + r + 1.0f;
  return e * std::bit_cast<float>((std::int32_t(n) + 127) << 23);
}

constexpr std::size_t kLanes = 16;

/// Sums f(i) for i in [0, n) in float lanes over short stretches and in double across them.
template <class F>
double lane_sum(std::size_t n, const F& f) {
  constexpr std::size_t kStretch = 64 * kLanes;
  double total = 0;
  std::size_t i = 0;
  for (; i + kLanes <= n;) {
    float lanes[kLanes] = {};
    const std::size_t end = std::min(n - n % kLanes, i + kStretch);
    for (; i < end; i += kLanes)
      for (std::size_t k = 0; k < kLanes; ++k) lanes[k] += f(i + k);
    for (const float lane : lanes) total += double(lane);
  }
  for (; i < n; ++i) total += double(f(i));
  return total;
}

float max_of(std::span<const float> x) { return *std::max_element(x.begin(), x.end()); }

}  // namespace

double log_sum_exp(std::span<const float> x) {
  const float max = max_of(x);
  return double(max) +
         std::log(lane_sum(x.size(), [&](std::size_t i) { return exp_negative(x[i] - max); }));
}

std::uint32_t argmax(std::span<const float> x) {
  return std::uint32_t(std::max_element(x.begin(), x.end()) - x.begin());
}

double negative_log_likelihood(std::span<const float> logits, std::uint32_t next) {
  return log_sum_exp(logits) - double(logits[next]);
}

Comparison compare_logits(std::span<const float> logits, std::span<const float> reference,
                          std::uint32_t next) {
  const double log_z = log_sum_exp(logits), reference_log_z = log_sum_exp(reference);
  // KL = sum p_r (l_r - l) + log Z - log Z_r, with both logits taken from their maximum so that the
  // terms stay small.
  const float max = max_of(logits), reference_max = max_of(reference);
  const double weighted = lane_sum(logits.size(), [&](std::size_t i) {
    const float r = reference[i] - reference_max;
    return exp_negative(r) * (r - (logits[i] - max));
  });
  const double mass = std::exp(reference_log_z - double(reference_max));
  const double kld =
      weighted / mass + (log_z - double(max)) - (reference_log_z - double(reference_max));
  return {.nll = log_z - double(logits[next]),
          .reference_nll = reference_log_z - double(reference[next]),
          .kld = std::max(0.0, kld),
          .same_top = argmax(logits) == argmax(reference)};
}

Measured mean_of(std::span<const double> values) {
  if (values.empty()) return {};
  const double n = double(values.size());
  double sum = 0;
  for (const double v : values) sum += v;
  const double mean = sum / n;
  double squares = 0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return {mean, values.size() < 2 ? 0 : std::sqrt(squares / (n - 1) / n)};
}

double quantile(std::span<const double> sorted, double q) {
  if (sorted.empty()) return 0;
  const double position = q * double(sorted.size() - 1);
  const std::size_t below = std::size_t(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - double(below)) * (sorted[above] - sorted[below]);
}

Measured exp_of(const Measured& mean) {
  const double value = std::exp(mean.value);
  return {value, value * mean.standard_error};
}

}  // namespace nibble
