// Round to nearest as papers and other tools mean it: scales from the range of the weights, each
// weight to the nearest level. What bitsandbytes does, and the baseline that others are compared
// to.
#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "round/rows.h"

namespace nibble {
namespace {

class RangeMethod final : public StripMethod {
 public:
  RangeMethod(const Format& format, std::int64_t columns, const BlockSearch& search)
      : spec_(search_spec(format)),
        search_(search),
        ones_(std::size_t(spec_.block), 1.0f),
        span_(spec_.whole_row ? columns : spec_.block) {}

  std::unique_ptr<Scratch> scratch() const override {
    auto space = std::make_unique<Workspace>();
    space->x = aligned_floats(std::size_t(spec_.block * kStripRows));
    return space;
  }

  void choose(const Strip& strip, Scratch& scratch, StripSink& sink) const override {
    auto& space = static_cast<Workspace&>(scratch);
    BlockSums unused;
    for (std::int64_t b = 0, j = 0; j < strip.columns; ++b, j += spec_.block) {
      if (j % span_ == 0) set_scales(strip, j, space.found);
      strip.gather(j, j + spec_.block, space.x.get());
      search_.measure(&spec_, space.x.get(), ones_.data(), &space.found, &unused);
      sink.put(b, space.found);
    }
  }

 private:
  struct Workspace final : Scratch {
    AlignedFloats x;
    SearchResult found{};
  };

  void set_scales(const Strip& strip, std::int64_t begin, SearchResult& found) const {
    const float low = spec_.levels[spec_.first_code], high = spec_.levels[spec_.level_count - 1];
    for (int r = 0; r < kStripRows; ++r) {
      const float* x = strip.rows + std::min(r, strip.count - 1) * strip.columns + begin;
      const auto [least, most] = std::minmax_element(x, x + span_);
      const float bottom = std::clamp(*least, -kLargestWeight, 0.0f);
      const float top = std::clamp(*most, 0.0f, kLargestWeight);
      if (!spec_.has_offset) {
        found.d[r] = stored_number(spec_, std::max(top, -bottom) / std::min(high, -low));
        found.dmin[r] = 0;
        continue;
      }
      found.d[r] = stored_number(spec_, (top - bottom) / (high - low));
      const float offset = bottom - found.d[r] * low;
      if (!spec_.zero_point)
        found.dmin[r] = stored_number(spec_, offset);
      else if (found.d[r] > 0)
        found.dmin[r] = std::clamp(std::nearbyint(-offset / found.d[r]), low, high);
      else
        found.dmin[r] = 0;
    }
  }

  SearchSpec spec_;
  const BlockSearch& search_;
  std::vector<float> ones_;
  std::int64_t span_;  // columns that share their scales
};

class Rtn final : public Rounder {
  std::string_view id() const override { return "rtn"; }
  bool needs_stats() const override { return false; }
  bool can(const Format& format) const override {
    const Layout& layout = format.layout();
    if (layout.scales == Layout::Scales::nested || layout.codebook) return false;
    if (layout.scales == Layout::Scales::none || layout.has_offset) return true;
    const auto levels = format.level_values();  // the range is as wide below zero as above
    const float end = std::min(levels.back(), -levels[std::size_t(layout.first_code)]);
    return std::ranges::find(levels, end) != levels.end() &&
           std::ranges::find(levels, -end) != levels.end();
  }

  Result<RoundReport> round(const RoundTask& task, ThreadPool& pool) const override {
    const std::vector<float> ones(std::size_t(task.columns), 1.0f);
    if (task.format->layout().scales == Layout::Scales::none)
      return round_strips(task, ones, nullptr, pool);
    if (!can(*task.format))
      return fail(ErrorCode::unsupported,
                  "rtn takes scales from the range of the weights, which {} has no use for: choose "
                  "nearest",
                  task.format->id());
    NIBBLE_TRY(const BlockSearch* search, active_search(search_spec(*task.format)));
    const RangeMethod method(*task.format, task.columns, *search);
    return round_strips(task, ones, &method, pool);
  }
};

}  // namespace

namespace registry {
const Rounder& round_rtn() {
  static const Rtn rounder;
  return rounder;
}
}  // namespace registry
}  // namespace nibble
