// Error feedback toward what the full-precision model computes, after GPTAQ (2504.02692) and Qronos
// (2505.11695). A layer reads x, made by blocks that are quantized already, where the
// full-precision model reads x + d. The weights that come nearest to w (x + d) on x are w + w E[d
// x^T] H^-1, by least squares with H = E[x x^T], regularized as for feedback, so that where little
// is known they stay w. A part of that correction is made, and GPTQ rounds the result.
#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "round/rounder.h"

namespace nibble {
namespace {

constexpr std::int64_t kRows = 64;  // that a thread corrects at a time

std::int64_t panels(const RoundTask& task) { return (task.rows + kRows - 1) / kRows; }

std::vector<float> corrected(const RoundTask& task, ThreadPool& pool) {
  openblas_set_num_threads(1);  // more would change the order of its sums
  const std::int64_t n = task.columns;
  std::vector<float> out(std::size_t(task.rows * n));
  pool.run(panels(task), 1, [&](std::int64_t panel, std::int64_t) {
    const std::int64_t begin = panel * kRows, count = std::min(kRows, task.rows - begin);
    std::vector<float> rows(std::size_t(count * n));
    task.load(begin, begin + count, rows.data());
    float* const to = out.data() + begin * n;
    std::ranges::copy(rows, to);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, int(count), int(n), int(n),
                task.stats.strength, rows.data(), int(n), task.stats.correction, int(n), 1, to,
                int(n));
    for (std::int64_t i = 0; i < count; ++i) {  // a weight that is not finite is left to be named
      const auto row = std::span(rows).subspan(std::size_t(i * n), std::size_t(n));
      if (!std::ranges::all_of(row, [](float w) { return std::isfinite(w); }))
        std::ranges::copy(row, to + i * n);
    }
  });
  return out;
}

/// Of what was written, against the weights as they were.
RoundReport report_of(const RoundTask& task, ThreadPool& pool) {
  const std::int64_t n = task.columns;
  const std::size_t row_bytes = task.format->row_bytes(std::size_t(n));
  std::vector<RoundReport> parts(std::size_t(panels(task)));
  pool.run(panels(task), 1, [&](std::int64_t panel, std::int64_t) {
    const std::int64_t begin = panel * kRows, count = std::min(kRows, task.rows - begin);
    std::vector<float> rows(std::size_t(count * n)), written(rows.size());
    task.load(begin, begin + count, rows.data());
    task.format->decode(task.out.data() + std::size_t(begin) * row_bytes,
                        rows.size() / std::size_t(task.format->block()), written.data());
    RoundReport& part = parts[std::size_t(panel)];
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const double w = rows[i], e = double(written[i]) - w;
      part.squared_weight += w * w;
      part.squared_error += e * e;
      part.weighted_error += e * e * double(task.stats.mean_square[i % std::size_t(n)]);
    }
  });
  RoundReport out;
  for (const RoundReport& part : parts) {
    out.squared_weight += part.squared_weight;
    out.squared_error += part.squared_error;
    out.weighted_error += part.weighted_error;
  }
  return out;
}

class Gptaq final : public Rounder {
  std::string_view id() const override { return "gptaq"; }
  bool needs_stats() const override { return true; }
  bool needs_moments() const override { return true; }
  bool needs_reference() const override { return true; }

  Result<RoundReport> round(const RoundTask& task, ThreadPool& pool) const override {
    const Rounder& feedback = *find_rounder("gptq");
    if (!task.stats.correction) return feedback.round(task, pool);
    const std::vector<float> weights = corrected(task, pool);
    RoundTask target = task;
    target.load = [&](std::int64_t begin, std::int64_t end, float* out) {
      std::copy(weights.begin() + begin * task.columns, weights.begin() + end * task.columns, out);
    };
    NIBBLE_TRY([[maybe_unused]] const auto of_target, feedback.round(target, pool));
    return report_of(task, pool);
  }
};

}  // namespace

namespace registry {
const Rounder& round_gptaq() {
  static const Gptaq rounder;
  return rounder;
}
}  // namespace registry
}  // namespace nibble
