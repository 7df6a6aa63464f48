#include "graph/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace nibble {
namespace {

/// The pair of dimensions (a real number) that turns `turns` times within the original context.
double turning_pair(double turns, const ModelConfig& c) {
  return c.head_dim * std::log(c.rope_scaling.original_context / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(c.rope_theta));
}

/// YaRN (arXiv:2309.00071): fast pairs keep their frequency, slow ones are divided by the factor,
/// with a linear blend between.
void apply_yarn(const ModelConfig& c, std::vector<double>& frequencies) {
  const RopeScaling& s = c.rope_scaling;
  const double low = std::max(0.0, std::floor(turning_pair(s.beta_fast, c)));
  double high = std::min(c.head_dim - 1.0, std::ceil(turning_pair(s.beta_slow, c)));
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double slow = std::clamp((double(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequencies[i] * (1 - slow) + frequencies[i] / s.factor * slow;
  }
}

}  // namespace

RopeTable::RopeTable(const ModelConfig& c, bool local) : frequencies_(c.head_dim / 2) {
  const double theta = local ? c.rope_theta_local : c.rope_theta;
  for (std::size_t i = 0; i < frequencies_.size(); ++i)
    frequencies_[i] = std::pow(theta, -2.0 * double(i) / c.head_dim);
  const RopeScaling& s = c.rope_scaling;
  if (local || s.kind == RopeScaling::Kind::none) return;
  if (s.kind == RopeScaling::Kind::yarn) {
    apply_yarn(c, frequencies_);
    factor_ = s.attention_factor > 0 ? s.attention_factor : 0.1 * std::log(s.factor) + 1;
    return;
  }
  for (std::size_t i = 0; i < frequencies_.size(); ++i)
    frequencies_[i] /= s.kind == RopeScaling::Kind::linear ? s.factor : double(s.factors[i]);
}

void RopeTable::fill(std::uint32_t first, std::int64_t count, float* cosines, float* sines) const {
  const std::size_t half = frequencies_.size();
  for (std::size_t t = 0; t < std::size_t(count); ++t)
    for (std::size_t i = 0; i < half; ++i) {
      const double angle = double(first + t) * frequencies_[i];
      cosines[t * half + i] = float(factor_ * std::cos(angle));
      sines[t * half + i] = float(factor_ * std::sin(angle));
    }
}

}  // namespace nibble
