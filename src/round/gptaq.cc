// Error feedback toward what the full-precision model computes, after GPTAQ (2504.02692) and Qronos
// (2505.11695). A layer reads x, made by blocks that are quantized already, where the
// full-precision model reads x + d. The weights that come nearest to w (x + d) on x are w + w E[d
// x^T] H^-1, by least squares with H = E[x x^T], regularized as for feedback, so that where little
// is known they stay w. A part of that correction is made, and GPTQ rounds the result.
#include "round/rounder.h"

namespace nibble {
namespace {

class Gptaq final : public Rounder {
  std::string_view id() const override { return "gptaq"; }
  bool needs_stats() const override { return true; }
  bool needs_moments() const override { return true; }
  bool needs_reference() const override { return true; }

  Result<RoundReport> round(const RoundTask& task, ThreadPool& pool) const override {
    return find_rounder("gptq")->round(task, pool);  // which makes the correction that it is given
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
