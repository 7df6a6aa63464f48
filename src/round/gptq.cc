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
std::vector<float> prices(const FeedbackFactor& factor, std::size_t columns, bool whole_row) {
  const std::size_t n = whole_row ? 1 : factor.order.size();
  std::vector<float> out(columns);
  for (std::size_t j = 0; j < columns; ++j) {
    const float u = factor.u.at(std::int64_t(j), std::int64_t(j));
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
        prices_(prices(factor, std::size_t(columns), spec_.whole_row)) {}

  std::unique_ptr<Scratch> scratch() const override {
    auto space = std::make_unique<Workspace>();
    space->x = aligned_floats(std::size_t(columns_ * kStripRows));
    space->found.resize(factor_.order.size());
    return space;
  }

  void choose(const Strip& strip, Scratch& scratch, StripSink& sink) const override {
    auto& space = static_cast<Workspace&>(scratch);
    feed(strip, space);
    subtract(strip, space);
    for (int i = 0; i < kDescents && descend(space); ++i) {
    }
    for (std::size_t i = 0; i < factor_.order.size(); ++i)
      sink.put(factor_.order[i], space.found[i]);
  }

 private:
  struct Workspace final : Scratch {
    AlignedFloats x;  // [columns][kStripRows], in the factor's order
    std::vector<SearchResult> found;
    alignas(64) float block[kMaxBlock * kStripRows], changes[kMaxBlock * kStripRows];
    float square[kMaxBlock * kMaxBlock];
  };

  std::int64_t blocks() const { return std::int64_t(factor_.order.size()); }
  float* at(Workspace& space, std::int64_t block) const {
    return space.x.get() + block * spec_.block * kStripRows;
  }

  void gather(const Strip& strip, std::int64_t i, float* out) const {
    const std::int64_t begin = factor_.order[std::size_t(i)] * spec_.block;
    strip.gather(begin, begin + spec_.block, out);
  }

  /// What a block and its own columns have to do with each other: [block][block].
  const float* square(const ColumnPanels& m, std::int64_t i, Workspace& space) const {
    const int n = spec_.block, width = m.width();
    for (int k = 0; k < n; k += width) {
      const float* from = m.panel((i * n + k) / width) + i * n * width;
      const std::int64_t rows = std::min<std::int64_t>(n, m.rows((i * n + k) / width) - i * n);
      for (std::int64_t j = 0; j < rows; ++j, from += width)
        std::copy_n(from, width, space.square + j * n + k);
    }
    return space.square;
  }

  /// out -= the first `count` rows of the block's columns of m, times x.
  void spread(const ColumnPanels& m, std::int64_t i, std::int64_t count, Workspace& space,
              float* out) const {
    const int n = spec_.block, width = m.width();
    for (int k = 0; k < n; k += width)
      feedback_.spread(m.panel((i * n + k) / width), width, count, space.x.get(),
                       out + k * kStripRows);
  }

  /// Leaves (w - q) / u in x, of the compensated weights.
  void feed(const Strip& strip, Workspace& space) const {
    SearchResult whole{};
    if (spec_.whole_row) {
      for (std::int64_t i = 0; i < blocks(); ++i) gather(strip, i, at(space, i));
      scale_.fit(at(space, 0), prices_.data(), columns_, whole);
    }
    for (std::int64_t i = 0; i < blocks(); ++i) {
      const std::int64_t j = i * spec_.block;
      SearchResult& found = space.found[std::size_t(i)];
      gather(strip, i, space.block);
      spread(factor_.u, i, j, space, space.block);
      if (spec_.whole_row)
        found = whole;
      else
        search_.run(&spec_, space.block, prices_.data() + j, &found);
      feedback_.round(&spec_, square(factor_.u, i, space), space.block, &found, at(space, i));
    }
  }

  /// Leaves q - w in x.
  void subtract(const Strip& strip, Workspace& space) const {
    for (std::int64_t i = 0; i < blocks(); ++i) {
      float* const errors = at(space, i);
      feedback_.decode(&spec_, &space.found[std::size_t(i)], errors);
      gather(strip, i, space.block);
      for (int k = 0; k < spec_.block * kStripRows; ++k) errors[k] -= space.block[k];
    }
  }

  /// One round over all blocks; false if nothing changed.
  bool descend(Workspace& space) const {
    bool any = false;
    for (std::int64_t i = 0; i < blocks(); ++i) {
      float* const gradient = space.block;
      std::fill_n(gradient, spec_.block * kStripRows, 0.0f);
      spread(factor_.h, i, columns_, space, gradient);
      if (!feedback_.refine(&spec_, square(factor_.h, i, space), gradient,
                            &space.found[std::size_t(i)], space.changes))
        continue;
      any = true;
      for (int k = 0; k < spec_.block * kStripRows; ++k) at(space, i)[k] += space.changes[k];
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
