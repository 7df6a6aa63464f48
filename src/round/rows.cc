#include "round/rows.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/clones.h"
#include "base/cpu.h"
#include "base/half.h"
#include "base/profile.h"
#include "base/transpose.h"
#include "format/bits.h"
#include "format/levels.h"
#include "round/point_runs.h"
#include "round/row_scale.h"

namespace nibble {
namespace {

// Importance of columns that calibration never saw, relative to the mean of their block.
constexpr float kLeastImportance = 1e-6f;

/// Index of the first value that is NaN or infinite; `count` if there is none.
NIBBLE_CLONES std::int64_t find_not_finite(const float* values, std::int64_t count) {
  const auto bad = [&](std::int64_t i) {
    return (std::bit_cast<std::uint32_t>(values[i]) & 0x7f800000) == 0x7f800000;
  };
  int any = 0;
  for (std::int64_t i = 0; i < count; ++i) any |= bad(i);
  std::int64_t i = any ? 0 : count;
  while (i < count && !bad(i)) ++i;
  return i;
}

NIBBLE_CLONES void widen(const std::uint8_t* codes, int count, Code* out) {
  for (int j = 0; j < count; ++j) out[j] = codes[j];
}

NIBBLE_CLONES void clamp(float least, float most, std::int64_t count, float* x) {
  for (std::int64_t i = 0; i < count; ++i) x[i] = std::clamp(x[i], least, most);
}

/// What one strip of rows came to.
struct StripReport {
  RoundReport sums;
  std::int64_t bad = -1;  // index (row * columns + column) of the first weight that has no place
};

/// Packs the blocks of one strip into the rows' bytes.
class Packer final : public StripSink {
 public:
  Packer(const Format& format, std::int64_t columns, int count, std::byte* out)
      : format_(format),
        row_bytes_(format.row_bytes(std::size_t(columns))),
        count_(count),
        out_(out) {}

  void put(std::int64_t block, const SearchResult& found) override {
    const int n = format_.block();
    const bool grouped = format_.layout().codebook;
    if (grouped)
      transpose(
          n / kGroup, kStripRows, [&](int g) { return found.groups[g]; }, groups_[0],
          kMaxBlock / kGroup);
    else
      transpose(
          n, kStripRows, [&](int j) { return found.codes[j]; }, codes_[0], kMaxBlock);
    Code wide[kMaxBlock];
    std::byte* out = out_ + std::size_t(block) * format_.spec().bytes;
    for (int r = 0; r < count_; ++r, out += row_bytes_) {
      if (!grouped) widen(codes_[r], n, wide);
      format_.pack(grid(found, r), grouped ? groups_[r] : wide, out);
    }
  }

 private:
  Grid grid(const SearchResult& found, int row) const {
    Grid grid;
    grid.d = found.d[row];
    grid.dmin = found.dmin[row];
    for (int s = 0; s < format_.block() / format_.layout().sub; ++s) {
      grid.sub_scale[s] = found.sub_scale[s][row];
      grid.sub_min[s] = found.sub_min[s][row];
    }
    return grid;
  }

  const Format& format_;
  std::size_t row_bytes_;
  int count_;
  std::byte* out_;
  std::uint8_t codes_[kStripRows][kMaxBlock];
  Code groups_[kStripRows][kMaxBlock / kGroup];
};

class Strips {
 public:
  Strips(const RoundTask& task, std::span<const float> importance, const StripMethod* method)
      : task_(task),
        format_(*task.format),
        importance_(importance),
        method_(task.format->layout().scales == Layout::Scales::none ? nullptr : method) {}

  Result<RoundReport> run(ThreadPool& pool) {
    const std::int64_t count = (task_.rows + kStripRows - 1) / kStripRows;
    std::vector<StripReport> reports(static_cast<std::size_t>(count));
    std::atomic<std::int64_t> next{0};
    pool.run_all([&](int) {
      const auto scratch = method_ ? method_->scratch() : nullptr;
      const auto rows = std::make_unique<float[]>(std::size_t(kStripRows * task_.columns));
      const auto decoded = std::make_unique<float[]>(std::size_t(task_.columns));
      for (std::int64_t i = next++; i < count; i = next++)
        reports[std::size_t(i)] = strip(i * kStripRows, std::min(task_.rows, (i + 1) * kStripRows),
                                        rows.get(), decoded.get(), scratch.get());
    });
    RoundReport total;
    for (const StripReport& report : reports) {
      if (report.bad >= 0) return bad_weight(report.bad);
      total.squared_error += report.sums.squared_error;
      total.weighted_error += report.sums.weighted_error;
      total.squared_weight += report.sums.squared_weight;
    }
    return total;
  }

 private:
  StripReport strip(std::int64_t begin, std::int64_t end, float* rows, float* decoded,
                    StripMethod::Scratch* scratch) const {
    StripReport report;
    const std::int64_t columns = task_.columns;
    task_.load(begin, end, rows);
    const std::int64_t count = (end - begin) * columns;
    if (const std::int64_t bad = find_not_finite(rows, count); bad < count) {
      report.bad = begin * columns + bad;
      return report;
    }
    const std::size_t row_bytes = format_.row_bytes(std::size_t(columns));
    std::byte* out = task_.out.data() + std::size_t(begin) * row_bytes;
    const std::size_t blocks = std::size_t(columns / format_.block());
    if (method_) {
      Packer packer(format_, columns, int(end - begin), out);
      method_->choose({rows, int(end - begin), columns}, *scratch, packer);
    } else {
      format_.encode(rows, blocks * std::size_t(end - begin), out);
    }
    for (std::int64_t r = 0; r < end - begin; ++r) {
      format_.decode(out + std::size_t(r) * row_bytes, blocks, decoded);
      measure(rows + r * columns, decoded, report.sums);
      if (method_) continue;  // scales are finite by construction
      if (const std::int64_t bad = find_not_finite(decoded, columns); bad < columns) {
        report.bad = (begin + r) * columns + bad;
        return report;
      }
    }
    return report;
  }

  /// Adds the squared errors of one row: in float32 over short runs of columns, each lane at most
  /// 32 terms, and from there on in double. The order depends on nothing but the columns.
  NIBBLE_CLONES void measure(const float* w, const float* q, RoundReport& sums) const {
    using Lanes [[gnu::vector_size(32)]] = float;
    constexpr int kLanes = 8, kRun = 32 * kLanes;
    Lanes plain{}, weighted{}, weight{};
    const auto add = [&](std::int64_t j, std::size_t count) {
      Lanes x{}, y{}, h{};
      std::memcpy(&x, w + j, count * sizeof(float));
      std::memcpy(&y, q + j, count * sizeof(float));
      std::memcpy(&h, importance_.data() + j, count * sizeof(float));
      const Lanes square = (x - y) * (x - y);
      plain += square, weighted += h * square, weight += x * x;
    };
    for (std::int64_t begin = 0; begin < task_.columns; begin += kRun) {
      const std::int64_t end = std::min(task_.columns, begin + kRun);
      std::int64_t j = begin;
      for (; j + kLanes <= end; j += kLanes) add(j, kLanes);
      if (j < end) add(j, std::size_t(end - j));
      for (int k = 0; k < kLanes; ++k) {
        sums.squared_error += plain[k];
        sums.weighted_error += weighted[k];
        sums.squared_weight += weight[k];
      }
      plain = weighted = weight = Lanes{};
    }
  }

  tl::unexpected<Error> bad_weight(std::int64_t index) const {
    const std::int64_t row = index / task_.columns, column = index % task_.columns;
    std::vector<float> values(std::size_t(task_.columns));
    task_.load(row, row + 1, values.data());
    const float value = values[std::size_t(column)];
    if (!std::isfinite(value))
      return fail(ErrorCode::corrupt,
                  "weight at row {}, column {} is {}: the checkpoint is damaged, fetch it again",
                  row, column, value);
    return fail(ErrorCode::unsupported,
                "weight {} at row {}, column {} is too large for {}: choose bf16 or f32", value,
                row, column, format_.id());
  }

  const RoundTask& task_;
  const Format& format_;
  std::span<const float> importance_;
  const StripMethod* method_;
};

/// Every block for itself.
class BlockwiseSearch final : public StripMethod {
 public:
  BlockwiseSearch(const Format& format, std::span<const float> importance,
                  const BlockSearch& search, bool favour_large)
      : search_(search),
        spec_(search_spec(format)),
        importance_(normalised(importance, spec_.block)) {
    spec_.favour_large = favour_large;
    spec_.clip = !favour_large;
  }

  std::unique_ptr<Scratch> scratch() const override { return std::make_unique<Workspace>(); }

  void choose(const Strip& strip, Scratch& scratch, StripSink& sink) const override {
    auto& space = static_cast<Workspace&>(scratch);
    for (std::int64_t b = 0, j = 0; j < strip.columns; ++b, j += spec_.block) {
      strip.gather(j, j + spec_.block, space.x);
      search_.run(&spec_, space.x, importance_.data() + j, &space.found);
      sink.put(b, space.found);
    }
  }

 private:
  struct alignas(64) Workspace final : Scratch {
    alignas(64) float x[kMaxBlock * kStripRows];
    SearchResult found;
  };

  const BlockSearch& search_;
  SearchSpec spec_;
  std::vector<float> importance_;
};

/// Every row for itself, with one scale.
class RowwiseSearch final : public StripMethod {
 public:
  RowwiseSearch(const Format& format, std::span<const float> importance, const BlockSearch& search)
      : spec_(search_spec(format)),
        scale_(spec_, search),
        importance_(normalised(importance, std::int64_t(importance.size()))) {}

  std::unique_ptr<Scratch> scratch() const override {
    auto space = std::make_unique<Workspace>();
    space->x = aligned_floats(importance_.size() * kStripRows);
    return space;
  }

  void choose(const Strip& strip, Scratch& scratch, StripSink& sink) const override {
    auto& space = static_cast<Workspace&>(scratch);
    strip.gather(0, strip.columns, space.x.get());
    scale_.fit(space.x.get(), importance_.data(), strip.columns, space.found);
    for (std::int64_t b = 0, j = 0; j < strip.columns; ++b, j += spec_.block) {
      scale_.emit(space.x.get() + j * kStripRows, importance_.data() + j, space.found);
      sink.put(b, space.found);
    }
  }

 private:
  struct Workspace final : Scratch {
    AlignedFloats x;
    SearchResult found{};
  };

  SearchSpec spec_;
  RowScale scale_;
  std::vector<float> importance_;
};

}  // namespace

AlignedFloats aligned_floats(std::size_t count) {
  return AlignedFloats(new (std::align_val_t(64)) float[count]);
}

void Strip::gather(std::int64_t begin, std::int64_t end, float* out) const {
  const auto row = [&](int r) { return rows + std::min(r, count - 1) * columns + begin; };
  transpose(kStripRows, end - begin, row, out, kStripRows);
  clamp(-kLargestWeight, kLargestWeight, (end - begin) * kStripRows, out);
}

std::vector<float> normalised(std::span<const float> importance, std::int64_t block) {
  std::vector<float> out(importance.size());
  for (std::size_t b = 0; b < out.size(); b += std::size_t(block)) {
    double sum = 0;
    for (std::int64_t j = 0; j < block; ++j) sum += importance[b + std::size_t(j)];
    const double mean = sum / double(block);
    for (std::int64_t j = 0; j < block; ++j) {
      const std::size_t i = b + std::size_t(j);
      out[i] = mean > 0 ? float(importance[i] / mean) + kLeastImportance : 1.0f;
    }
  }
  return out;
}

SearchSpec search_spec(const Format& format) {
  const Layout& l = format.layout();
  const std::span<const float> levels = format.level_values();
  SearchSpec spec{.block = format.block(),
                  .sub = l.sub,
                  .number = SearchSpec::Number(l.number),
                  .nested = l.scales == Layout::Scales::nested,
                  .has_offset = l.has_offset,
                  .zero_point = l.zero_point,
                  .whole_row = l.whole_row,
                  .scale_min = float(l.scale_min),
                  .scale_max = float(l.scale_max),
                  .scale_step = float(l.scale_step),
                  .unit = l.unit,
                  .offset_max = float(l.offset_max),
                  .first_code = l.first_code,
                  .level_count = int(levels.size()),
                  .kind = consecutive(l.levels) ? SearchSpec::kConsecutive
                          : levels.size() <= 16 ? SearchSpec::kTable
                                                : SearchSpec::kE4m3,
                  .favour_large = false,
                  .clip = false,
                  .levels = levels.data(),
                  .book = {}};
  if (const Codebook* book = l.codebook)
    spec.book = {.points = book->points.data(),
                 .count = int(book->points.size()),
                 .width = book->width,
                 .digit_bits = book->digit_bits,
                 .digits = book->digits(),
                 .banks = book->banks,
                 .bank_columns = book->bank_columns,
                 .values = book->values.data(),
                 .runs = &point_runs(*book),
                 .signs = book->signs == Codebook::Signs::none   ? PointSpec::kNone
                          : book->signs == Codebook::Signs::free ? PointSpec::kFree
                                                                 : PointSpec::kEven};
  return spec;
}

float stored_number(const SearchSpec& spec, float x) {
  switch (spec.number) {
    case SearchSpec::kFp16:
      return std::clamp(fp16_to_f32(f32_to_fp16(x)), -65504.0f, 65504.0f);
    case SearchSpec::kBf16:
      return bf16_to_f32(f32_to_bf16(x));
    case SearchSpec::kF32:
      return x;
    case SearchSpec::kEightBits:
      return e4m3_to_f32(f32_to_e4m3(x * 1024)) / 1024;
    case SearchSpec::kPower:
      return x > 0 ? std::exp2(std::max(-126.0f, std::ceil(std::log2(x)))) : 0;
  }
  return x;
}

Result<const BlockSearch*> active_search(const SearchSpec& spec) {
  for (const BlockSearch* search : search_registry())
    if (search->isa == active_isa() && search->joint == (spec.book.count > 0)) return search;
  return fail(ErrorCode::unsupported,
              "NIBBLE_ISA names an instruction set that this processor or build does not have");
}

Status check_importance(const RoundTask& task, std::span<const float> importance) {
  if (importance.size() != std::size_t(task.columns))
    return fail(ErrorCode::invalid,
                "importance of {} columns for a matrix of {}: it is of another model",
                importance.size(), task.columns);
  for (std::size_t j = 0; j < importance.size(); ++j)
    if (!(importance[j] >= 0 && std::isfinite(importance[j])))
      return fail(ErrorCode::corrupt, "importance of column {} is {}: calibrate again", j,
                  importance[j]);
  return {};
}

Result<RoundReport> round_strips(const RoundTask& task, std::span<const float> importance,
                                 const StripMethod* method, ThreadPool& pool) {
  NIBBLE_CHECK(task.columns % task.format->block() == 0);
  NIBBLE_CHECK(task.out.size() ==
               std::size_t(task.rows) * task.format->row_bytes(std::size_t(task.columns)));
  const profile::Timed timed(profile::Phase::rounding);
  return Strips(task, importance, method).run(pool);
}

Result<RoundReport> round_rows(const RoundTask& task, std::span<const float> importance,
                               ThreadPool& pool, bool favour_large) {
  NIBBLE_DO(check_importance(task, importance));
  if (task.format->layout().scales == Layout::Scales::none)
    return round_strips(task, importance, nullptr, pool);
  NIBBLE_TRY(const BlockSearch* search, active_search(search_spec(*task.format)));
  if (task.format->layout().whole_row) {
    const RowwiseSearch method(*task.format, importance, *search);
    return round_strips(task, importance, &method, pool);
  }
  const BlockwiseSearch method(*task.format, importance, *search, favour_large);
  return round_strips(task, importance, &method, pool);
}

}  // namespace nibble
