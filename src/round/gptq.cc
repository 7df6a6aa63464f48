// Error feedback, after GPTQ (Frantar et al. 2022), in any format: on entering a block its scales
// are searched on the weights as compensated so far, with the importance 1 / u_jj^2, the price of
// an error that later columns make up for as well as they can; then each column's error goes on to
// the later ones. Coordinate descent under the same second moment follows.
#include "round/gptq.h"

#include <cmath>
#include <string_view>

#include "round/row_scale.h"
#include "round/rows.h"

namespace nibble {
namespace {

constexpr int kDescents = 3;  // at most; fewer where nothing changes any more

Result<const Feedback*> active_feedback(const BlockSearch& search) {
  for (const Feedback* feedback : feedback_registry())
    if (std::string_view(feedback->isa) == search.isa) return feedback;
  return fail(ErrorCode::unsupported, "no error feedback for {}", search.isa);
}

/// 1 / u_jj^2 of each column, in the factor's order, around 1 among those that share a scale.
std::vector<float> prices(const FeedbackFactor& factor, bool whole_row) {
  const std::size_t n = whole_row ? 1 : factor.order.size();
  const std::size_t columns = std::size_t(std::sqrt(double(factor.u.size())) + 0.5);
  std::vector<float> out(columns);
  for (std::size_t j = 0; j < columns; ++j) {
    const float u = factor.u[j * (columns + 1)];
    out[j] = 1 / (u * u);
  }
  return normalised(out, std::int64_t(columns / n));
}

class FeedbackMethod final : public StripMethod {
 public:
  FeedbackMethod(const Format& format, std::int64_t columns, const FeedbackFactor& factor,
                 const BlockSearch& search, const Feedback& feedback)
      : columns_(columns),
        factor_(factor),
        search_(search),
        feedback_(feedback),
        spec_(search_spec(format)),
        scale_(spec_, search),
        prices_(prices(factor, spec_.whole_row)) {}

  std::unique_ptr<Scratch> scratch() const override {
    auto space = std::make_unique<Workspace>();
    space->x = aligned_floats(std::size_t(columns_ * kStripRows));
    space->found.resize(factor_.order.size());
    return space;
  }

  void choose(const Strip& strip, Scratch& scratch, StripSink& sink) const override {
    auto& space = static_cast<Workspace&>(scratch);
    feed(strip, space);
    gradient(strip, space);
    for (int i = 1; i <= kDescents && descend(space, i == kDescents); ++i) {
    }
    for (std::size_t i = 0; i < factor_.order.size(); ++i)
      sink.put(factor_.order[i], space.found[i]);
  }

 private:
  struct Workspace final : Scratch {
    AlignedFloats x;  // [columns][kStripRows], in the factor's order
    std::vector<SearchResult> found;
    alignas(64) float block[kMaxBlock * kStripRows], other[kMaxBlock * kStripRows];
  };

  std::int64_t blocks() const { return std::int64_t(factor_.order.size()); }
  float* at(Workspace& space, std::int64_t block) const {
    return space.x.get() + block * spec_.block * kStripRows;
  }
  static const float* row(const std::vector<float>& m, std::int64_t columns, std::int64_t j,
                          std::int64_t k) {
    return m.data() + j * columns + k;
  }

  void gather(const Strip& strip, std::int64_t i, float* out) const {
    const std::int64_t begin = factor_.order[std::size_t(i)] * spec_.block;
    strip.gather(begin, begin + spec_.block, out);
  }

  void feed(const Strip& strip, Workspace& space) const {
    const int n = spec_.block;
    for (std::int64_t i = 0; i < blocks(); ++i) gather(strip, i, at(space, i));
    SearchResult whole{};
    if (spec_.whole_row) scale_.fit(at(space, 0), prices_.data(), columns_, whole);
    for (std::int64_t i = 0; i < blocks(); ++i) {
      const std::int64_t j = i * n;
      SearchResult& found = space.found[std::size_t(i)];
      if (spec_.whole_row)
        found = whole;
      else
        search_.run(&spec_, at(space, i), prices_.data() + j, &found);
      feedback_.round(&spec_, row(factor_.u, columns_, j, j), columns_, at(space, i), &found,
                      space.block);
      feedback_.spread(row(factor_.u, columns_, j, j + n), columns_, n, space.block,
                       at(space, i + 1), columns_ - j - n);
    }
  }

  /// x = (w - q) H.
  void gradient(const Strip& strip, Workspace& space) const {
    std::fill_n(space.x.get(), columns_ * kStripRows, 0.0f);
    for (std::int64_t i = 0; i < blocks(); ++i) {
      gather(strip, i, space.other);
      feedback_.decode(&spec_, &space.found[std::size_t(i)], space.block);
      for (int k = 0; k < spec_.block * kStripRows; ++k) space.block[k] -= space.other[k];
      feedback_.spread(row(factor_.h, columns_, i * spec_.block, 0), columns_, spec_.block,
                       space.block, space.x.get(), columns_);
    }
  }

  /// One round over all blocks; false if nothing changed. The last one has no use for the gradient
  /// of blocks that it has passed.
  bool descend(Workspace& space, bool last) const {
    const int n = spec_.block;
    bool any = false;
    for (std::int64_t i = 0; i < blocks(); ++i) {
      const std::int64_t j = i * n;
      if (!feedback_.refine(&spec_, row(factor_.h, columns_, j, j), columns_, at(space, i),
                            &space.found[std::size_t(i)], space.block))
        continue;
      any = true;
      if (!last)
        feedback_.spread(row(factor_.h, columns_, j, 0), columns_, n, space.block, space.x.get(),
                         j);
      feedback_.spread(row(factor_.h, columns_, j, j + n), columns_, n, space.block,
                       at(space, i + 1), columns_ - j - n);
    }
    return any;
  }

  std::int64_t columns_;
  const FeedbackFactor& factor_;
  const BlockSearch& search_;
  const Feedback& feedback_;
  SearchSpec spec_;
  RowScale scale_;
  std::vector<float> prices_;
};

class Gptq final : public Rounder {
  std::string_view id() const override { return "gptq"; }
  bool needs_stats() const override { return true; }
  bool needs_moments() const override { return true; }

  Result<RoundReport> round(const RoundTask& task, ThreadPool& pool) const override {
    // Without second moments errors have nowhere to go; nor in a format that has no scales.
    if (!task.stats.factor || task.format->layout().scales == Layout::Scales::none)
      return round_rows(task, task.stats.mean_square, pool);
    NIBBLE_TRY(const BlockSearch* search, active_search(search_spec(*task.format)));
    NIBBLE_TRY(const Feedback* feedback, active_feedback(*search));
    NIBBLE_DO(check_importance(task, task.stats.mean_square));
    const FeedbackMethod method(*task.format, task.columns, *task.stats.factor, *search, *feedback);
    return round_strips(task, task.stats.mean_square, &method, pool);
  }
};

}  // namespace

namespace registry {
const Rounder& round_gptq() {
  static const Gptq rounder;
  return rounder;
}
}  // namespace registry
}  // namespace nibble
