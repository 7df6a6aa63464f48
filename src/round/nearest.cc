// Every block by itself, every column the same: nothing but the weights is known.
#include <vector>

#include "round/rows.h"

namespace nibble {
namespace {

class Nearest final : public Rounder {
  std::string_view id() const override { return "nearest"; }
  bool needs_stats() const override { return false; }
  Result<RoundReport> round(const RoundTask& task, ThreadPool& pool) const override {
    return round_rows(task, std::vector<float>(std::size_t(task.columns), 1.0f), pool, true);
  }
};

}  // namespace

namespace registry {
const Rounder& round_nearest() {
  static const Nearest rounder;
  return rounder;
}
}  // namespace registry
}  // namespace nibble
