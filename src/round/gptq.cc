// Error feedback, after GPTQ (Frantar et al. 2022), in any format: on entering a block its scales
// are searched on the weights as compensated so far, with the importance 1 / u_jj^2, the price of
// an error that later columns make up for as well as they can; then each column's error goes on to
// the later ones. Coordinate descent under the same second moment follows: on the codes, of which
// few change, and once at its end on the scales, with which all columns do.
#include "round/gptq.h"

#include <cblas.h>

#include <array>
#include <string_view>

#include "round/row_scale.h"
#include "round/rows.h"

namespace nibble {
namespace {

constexpr int kDescents = 4;  // at most; fewer where nothing changes any more

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

/// What has changed in each row of a strip, in turn, and what of it each block has not yet
/// followed.
class ChangeLog {
 public:
  ChangeLog(std::int64_t columns, std::size_t blocks)
      : capacity_((kDescents - 1) * columns),
        changes_(std::make_unique_for_overwrite<Change[]>(std::size_t(capacity_ * kStripRows))),
        seen_(blocks) {}

  void clear() {
    count_ = {};
    std::fill(seen_.begin(), seen_.end(), Counts{});
  }

  /// The changes of a block [columns][kStripRows], which it has made and need not follow.
  void add(std::int64_t block, std::int64_t first_column, int columns, const float* changes) {
    for (int j = 0; j < columns; ++j, changes += kStripRows) {
      if (std::all_of(changes, changes + kStripRows, [](float by) { return by == 0; })) continue;
      for (std::size_t r = 0; r < kStripRows; ++r)
        if (changes[r] != 0) row(r)[count_[r]++] = {std::int32_t(first_column + j), changes[r]};
    }
    seen_[std::size_t(block)] = count_;
  }

  std::array<Changes, kStripRows> news(std::int64_t block) const {
    std::array<Changes, kStripRows> out;
    for (std::size_t r = 0; r < kStripRows; ++r) {
      const std::int64_t seen = seen_[std::size_t(block)][r];
      out[r] = {row(r) + seen, count_[r] - seen};
    }
    return out;
  }

 private:
  using Counts = std::array<std::int64_t, kStripRows>;
  Change* row(std::size_t r) const { return changes_.get() + std::int64_t(r) * capacity_; }

  std::int64_t capacity_;  // of a row
  std::unique_ptr<Change[]> changes_;
  Counts count_{};
  std::vector<Counts> seen_;
};

class FeedbackMethod final : public StripMethod {
 public:
  FeedbackMethod(const Format& format, std::int64_t columns, const LayerStats& stats,
                 const BlockSearch& search, const Feedback& feedback)
      : columns_(columns),
        stats_(stats),
        factor_(*stats.factor),
        search_(search),
        feedback_(feedback),
        spec_(search_spec(format)),
        scale_(spec_, search),
        prices_(prices(factor_, std::size_t(columns), spec_.whole_row)) {
    if (stats_.correction) openblas_set_num_threads(1);  // more change the order of its sums
  }

  std::unique_ptr<Scratch> scratch() const override {
    auto space = std::make_unique<Workspace>(columns_, factor_.order.size());
    if (stats_.correction) space->corrected.resize(std::size_t(columns_ * kStripRows));
    return space;
  }

  void choose(const Strip& strip, Scratch& scratch, StripSink& sink) const override {
    auto& space = static_cast<Workspace&>(scratch);
    feed(stats_.correction ? corrected(strip, space) : strip, space);
    space.log.clear();
    for (int i = 1; i < kDescents && descend(space, false); ++i) {
    }
    descend(space, true);
    for (std::size_t i = 0; i < factor_.order.size(); ++i)
      sink.put(factor_.order[i], space.found[i]);
  }

 private:
  struct Workspace final : Scratch {
    Workspace(std::int64_t columns, std::size_t blocks)
        : errors(aligned_floats(std::size_t(columns * kStripRows))),
          gradient(aligned_floats(std::size_t(columns * kStripRows))),
          found(blocks),
          log(columns, blocks) {}

    // In the factor's order. Errors r = w - q, later what r has changed by; gradient: r H.
    AlignedFloats errors, gradient;
    std::vector<SearchResult> found;
    ChangeLog log;
    std::vector<float> corrected;  // [kStripRows][columns], where there is a correction
    alignas(64) float block[kMaxBlock * kStripRows];
    float square[kMaxBlock * kMaxBlock];
  };

  std::int64_t blocks() const { return std::int64_t(factor_.order.size()); }
  float* at(const AlignedFloats& x, std::int64_t block) const {
    return x.get() + block * spec_.block * kStripRows;
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

  /// out += the first `count` errors times the block's columns of m.
  void spread(const ColumnPanels& m, std::int64_t i, std::int64_t count, Workspace& space,
              float* out) const {
    const int n = spec_.block, width = m.width();
    for (int k = 0; k < n; k += width)
      feedback_.spread(m.panel((i * n + k) / width), width, count, space.errors.get(),
                       out + k * kStripRows);
  }

  /// The rows w + strength * w * correction: what is rounded in their place.
  Strip corrected(const Strip& strip, Workspace& space) const {
    const int n = int(columns_);
    std::copy_n(strip.rows, strip.count * columns_, space.corrected.data());
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, strip.count, n, n, stats_.strength,
                strip.rows, n, stats_.correction, n, 1, space.corrected.data(), n);
    return {space.corrected.data(), strip.count, columns_};
  }

  /// Chooses scales and codes on compensated weights. Leaves r = w - q, and r H = r V V^T, from
  /// what each block adds to r V.
  void feed(const Strip& strip, Workspace& space) const {
    const int n = spec_.block, width = factor_.u.width();
    for (std::int64_t i = 0; i < blocks(); ++i) {
      const std::int64_t begin = factor_.order[std::size_t(i)] * n;
      strip.gather(begin, begin + n, at(space.errors, i));
    }
    SearchResult whole{};
    if (spec_.whole_row) scale_.fit(space.errors.get(), prices_.data(), columns_, whole);
    for (std::int64_t i = 0; i < blocks(); ++i) {
      SearchResult& found = space.found[std::size_t(i)];
      std::copy_n(at(space.errors, i), n * kStripRows, space.block);
      spread(factor_.u, i, i * n, space, space.block);
      if (spec_.whole_row)
        found = whole;
      else
        search_.run(&spec_, space.block, prices_.data() + i * n, &found);
      feedback_.round(&spec_, square(factor_.u, i, space), space.block, &found, at(space.errors, i),
                      at(space.gradient, i));
      for (int k = 0; k < n; k += width)
        feedback_.spread_back(factor_.u.panel((i * n + k) / width), width, i * n,
                              at(space.gradient, i) + k * kStripRows, space.gradient.get());
    }
  }

  /// One round over all blocks; false if nothing changed. Few codes change, and blocks follow what
  /// each row's log says; with a scale all columns of its block do. Leaves the changes in errors.
  bool descend(Workspace& space, bool scales) const {
    const int n = spec_.block, width = factor_.h.width();
    bool any = false;
    for (std::int64_t i = 0; i < blocks(); ++i) {
      float *const gradient = at(space.gradient, i), *const changes = at(space.errors, i);
      const auto news = space.log.news(i);
      for (int k = 0; k < n; k += width)
        feedback_.follow(factor_.h.panel((i * n + k) / width), width, news.data(),
                         gradient + k * kStripRows);
      if (scales) spread(factor_.h, i, i * n, space, gradient);
      any |= feedback_.refine(&spec_, square(factor_.h, i, space), scales, gradient,
                              &space.found[std::size_t(i)], changes);
      if (!scales) space.log.add(i, i * n, n, changes);
    }
    return any;
  }

  std::int64_t columns_;
  const LayerStats stats_;
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
    const FeedbackMethod method(*task.format, task.columns, task.stats, *search, *feedback);
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
