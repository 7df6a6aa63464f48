#include "round/sample.h"

#include <algorithm>

#include "round/search.h"

namespace nibble {
namespace {

constexpr std::int64_t kStrips = 4;

}  // namespace

MatrixSample::MatrixSample(const RoundTask& whole) : task(whole) {
  const std::int64_t strips = (whole.rows + kStripRows - 1) / kStripRows;
  const std::int64_t wanted = std::min(strips, kStrips);
  weights_.resize(std::size_t(wanted * kStripRows * whole.columns));
  task.rows = 0;
  for (std::int64_t i = 0; i < wanted; ++i) {
    const std::int64_t begin = strips * i / wanted * kStripRows;
    const std::int64_t end = std::min(whole.rows, begin + kStripRows);
    whole.load(begin, end, weights_.data() + task.rows * whole.columns);
    task.rows += end - begin;
  }
  weights_.resize(std::size_t(task.rows * whole.columns));
  bytes_.resize(std::size_t(task.rows) * task.format->row_bytes(std::size_t(task.columns)));
  task.out = bytes_;
  task.load = [this](std::int64_t begin, std::int64_t end, float* out) {
    std::copy(weights_.begin() + begin * task.columns, weights_.begin() + end * task.columns, out);
  };
}

std::vector<float> MatrixSample::errors() const {
  std::vector<float> out(weights_.size());
  task.format->decode(task.out.data(), out.size() / std::size_t(task.format->block()), out.data());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] -= weights_[i];
  return out;
}

double MatrixSample::error(const SecondMoment& moment, std::span<const float> scales) const {
  std::vector<float> found = errors();
  if (!scales.empty())
    for (std::size_t i = 0; i < found.size(); ++i) found[i] /= scales[i % scales.size()];
  return output_error(moment, found.data(), task.rows);
}

double MatrixSample::error(const SecondMoment& moment, const Drift& drift) const {
  return output_error(moment, drift, weights_.data(), errors().data(), task.rows);
}

}  // namespace nibble
