// Least error weighted with the mean square of each column's input: the output error of the layer
// if its inputs were uncorrelated.
#include "round/rows.h"

namespace nibble {
namespace {

class Importance final : public Rounder {
  std::string_view id() const override { return "importance"; }
  bool needs_stats() const override { return true; }
  Result<RoundReport> round(const RoundTask& task, ThreadPool& pool) const override {
    return round_rows(task, task.stats.mean_square, pool);
  }
};

}  // namespace

namespace registry {
const Rounder& round_importance() {
  static const Importance rounder;
  return rounder;
}
}  // namespace registry
}  // namespace nibble
