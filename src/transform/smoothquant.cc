// SmoothQuant (Xiao et al. 2023): a part of the outliers of the inputs moves into the weights, so
// that neither is hard to quantize: s_j = (max |x_j|)^a / (max |w_j|)^(1 - a), with a = 1/2. For
// runtimes that round the inputs of each layer to 8 bits.
#include <algorithm>
#include <cmath>

#include "transform/transform.h"

namespace nibble {
namespace {

constexpr std::int64_t kRows = 64;     // read at a time
constexpr double kLeastSize = 1e-5;    // of the largest channel: channels that are hardly used
constexpr double kMostScale = 0x1p10;  // so that a norm's weights keep to fp16

/// max |w_j| over all rows of all readers.
std::vector<float> largest_weights(const FoldTask& task, std::size_t columns) {
  std::vector<float> out(columns), rows(std::size_t(kRows) * columns);
  for (const RoundTask& reader : task.to)
    for (std::int64_t begin = 0; begin < reader.rows; begin += kRows) {
      const std::int64_t end = std::min(reader.rows, begin + kRows);
      reader.load(begin, end, rows.data());
      for (std::size_t i = 0; i < std::size_t(end - begin) * columns; ++i)
        out[i % columns] = std::max(out[i % columns], std::abs(rows[i]));
    }
  return out;
}

/// No less than a small part of the largest.
void raise(std::vector<float>& sizes) {
  const double largest = *std::max_element(sizes.begin(), sizes.end());
  for (float& size : sizes) size = float(std::max(double(size), kLeastSize * largest));
}

class SmoothQuant final : public Transform {
  std::string_view id() const override { return "smoothquant"; }

  Result<std::vector<float>> scales(const FoldTask& task, ThreadPool&) const override {
    std::vector<float> inputs = task.moment->largest;
    const std::size_t n = std::size_t(task.moment->columns);
    std::vector<float> weights = largest_weights(task, n);
    const auto usable = [](const std::vector<float>& sizes) {
      return std::all_of(sizes.begin(), sizes.end(), [](float x) { return std::isfinite(x); }) &&
             std::any_of(sizes.begin(), sizes.end(), [](float x) { return x > 0; });
    };
    if (inputs.size() != n || !usable(inputs) || !usable(weights)) return std::vector<float>{};
    raise(inputs);
    raise(weights);
    // The inputs are divided by the scale, and the weights multiplied.
    std::vector<float> out(n);
    for (std::size_t j = 0; j < n; ++j)
      out[j] = float(std::clamp(std::sqrt(double(inputs[j]) / double(weights[j])), 1 / kMostScale,
                                kMostScale));
    return out;
  }
};

}  // namespace

namespace registry {
const Transform& transform_smoothquant() {
  static const SmoothQuant transform;
  return transform;
}
}  // namespace registry
}  // namespace nibble
