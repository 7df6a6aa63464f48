// Activation-aware scaling (AWQ, Lin et al. 2023): columns that read large activations are made
// larger, so that their relative error falls: s_j = (rms of x_j)^a, with the exponent a that gives
// the least error of the outputs on text held out, the readers rounded as they will be. Scales and
// clipping inside the blocks are the rounding's own search.
#include <algorithm>
#include <cmath>

#include "round/sample.h"
#include "transform/transform.h"

namespace nibble {
namespace {

constexpr int kExponents = 10;       // 0.1, 0.2, ... 1
constexpr double kLeastRms = 1e-4;   // of the largest: channels that are hardly used
constexpr double kLeastGain = 0.01;  // of the error; less is noise

/// Around 1: the square root of largest times smallest.
std::vector<float> power_of_rms(const SecondMoment& moment, double exponent) {
  const std::size_t n = std::size_t(moment.columns);
  std::vector<double> rms(n);
  for (std::size_t j = 0; j < n; ++j)
    rms[j] = std::sqrt(double(moment.mean_square(std::int64_t(j))));
  const double largest = *std::max_element(rms.begin(), rms.end());
  for (double& r : rms) r = std::pow(std::max(r, kLeastRms * largest), exponent);
  const auto [low, high] = std::minmax_element(rms.begin(), rms.end());
  const double middle = std::sqrt(*low * *high);
  std::vector<float> out(n);
  for (std::size_t j = 0; j < n; ++j) out[j] = float(rms[j] / middle);
  return out;
}

/// The error of the readers' outputs on text held out, with the scales moved into them.
Result<double> error_with(const FoldTask& task, const std::vector<float>& scales,
                          ThreadPool& pool) {
  const std::size_t n = scales.size();
  std::vector<float> mean_square(n);
  for (std::size_t j = 0; j < n; ++j)
    mean_square[j] = task.moment->mean_square(std::int64_t(j)) / (scales[j] * scales[j]);
  double sum = 0;
  for (const RoundTask& reader : task.to) {
    RoundTask scaled = reader;
    scaled.stats = {.mean_square = mean_square, .count = task.moment->count};
    scaled.load = [&](std::int64_t begin, std::int64_t end, float* out) {
      reader.load(begin, end, out);
      for (std::int64_t r = begin; r < end; ++r, out += n)
        for (std::size_t j = 0; j < n; ++j) out[j] *= scales[j];
    };
    MatrixSample sample(scaled);
    NIBBLE_TRY([[maybe_unused]] const auto rounded, task.rounder->round(sample.task, pool));
    sum += sample.error(*task.held_out, scales) * double(reader.rows) / double(sample.task.rows);
  }
  return sum;
}

class Awq final : public Transform {
  std::string_view id() const override { return "awq"; }

  Result<std::vector<float>> scales(const FoldTask& task, ThreadPool& pool) const override {
    const std::size_t n = std::size_t(task.moment->columns);
    for (std::size_t j = 0; j < n; ++j)
      if (!std::isfinite(task.moment->mean_square(std::int64_t(j)))) return std::vector<float>{};
    NIBBLE_TRY(double least, error_with(task, std::vector<float>(n, 1.0f), pool));
    least *= 1 - kLeastGain;
    std::vector<float> best;
    for (int i = 1; i <= kExponents; ++i) {
      std::vector<float> scales = power_of_rms(*task.moment, double(i) / kExponents);
      NIBBLE_TRY(const double error, error_with(task, scales, pool));
      if (!(error < least)) continue;
      least = error;
      best = std::move(scales);
    }
    return best;
  }
};

}  // namespace

namespace registry {
const Transform& transform_awq() {
  static const Awq transform;
  return transform;
}
}  // namespace registry
}  // namespace nibble
