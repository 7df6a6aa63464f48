// What every rounder owes, in every quantized format: checked on all of both registries.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/half.h"
#include "round/rounder.h"
#include "round/rows.h"

namespace nibble {
namespace {

/// A matrix to round, with what becomes of it.
struct Matrix {
  const Format& format;
  std::int64_t rows, columns;
  std::vector<float> weights, importance;
  std::vector<std::byte> out;

  Matrix(const Format& f, std::int64_t r, std::int64_t c)
      : format(f),
        rows(r),
        columns(c),
        weights(std::size_t(r * c)),
        importance(std::size_t(c), 1),
        out(std::size_t(r) * f.row_bytes(std::size_t(c))) {}

  Result<RoundReport> round(const Rounder& rounder, int threads) {
    ThreadPool pool(threads);
    RoundTask task;
    task.rows = rows;
    task.columns = columns;
    task.format = &format;
    task.stats.mean_square = importance;
    task.load = [&](std::int64_t begin, std::int64_t end, float* to) {
      std::copy(weights.begin() + begin * columns, weights.begin() + end * columns, to);
    };
    task.out = out;
    return rounder.round(task, pool);
  }

  std::vector<float> decoded() const {
    std::vector<float> q(weights.size());
    format.decode(out.data(), weights.size() / std::size_t(format.block()), q.data());
    return q;
  }
};

double weighted_error(const Matrix& m, const std::vector<float>& q) {
  double sum = 0;
  for (std::size_t i = 0; i < q.size(); ++i) {
    const double e = double(m.weights[i]) - q[i];
    sum += m.importance[i % std::size_t(m.columns)] * e * e;
  }
  return sum;
}

/// The error of the plainest way: scales from the range of each sub-block (with as many integer
/// steps for the sub-scales as the format has), every weight to its nearest level. `symmetric`: the
/// range reaches as far below zero as above.
double plainest_error(const Matrix& m, bool symmetric) {
  const Format& f = m.format;
  const Layout& l = f.layout();
  const auto levels = f.level_values();
  const float low = l.codebook ? l.levels.front() : levels[std::size_t(l.first_code)];
  const float high = levels.back(), least = symmetric ? std::max(low, -high) : low;
  const int subs = f.block() / l.sub;
  const SearchSpec spec = search_spec(f);
  const auto half = [](float x) { return fp16_to_f32(f32_to_fp16(x)); };
  double sum = 0;
  for (std::size_t at = 0; at < m.weights.size(); at += std::size_t(f.block())) {
    Grid grid;
    float scale[kMaxSubBlocks], offset[kMaxSubBlocks], d = 0, dmin = 0;
    for (int s = 0; s < subs; ++s) {
      const std::size_t columns = std::size_t(m.columns);
      const float* x = m.weights.data() + (l.whole_row ? at / columns * columns : at) + s * l.sub;
      const auto [a, b] = std::minmax_element(x, x + (l.whole_row ? m.columns : l.sub));
      offset[s] = l.has_offset ? std::min(*a, 0.0f) : 0;
      scale[s] = l.has_offset ? (*b - offset[s]) / (high - low)
                              : std::max(*b / std::min(high, -least), *a / least);
      d = std::max(d, scale[s]), dmin = std::max(dmin, -offset[s]);
    }
    if (l.scales == Layout::Scales::nested) {
      grid.d = half(d / (float(l.scale_max) * l.unit));
      grid.dmin = l.offset_max > 0 ? half(dmin / float(l.offset_max)) : 0;
      for (int s = 0; s < subs; ++s) {
        const float factor = grid.d > 0 ? scale[s] / (grid.d * l.unit) : 0;
        const float steps = std::round((factor - float(l.scale_min)) / float(l.scale_step));
        grid.sub_scale[s] =
            std::int16_t(std::clamp(float(l.scale_min) + steps * float(l.scale_step),
                                    float(l.scale_min), float(l.scale_max)));
        grid.sub_min[s] = std::int16_t(
            std::min(float(l.offset_max), grid.dmin > 0 ? std::round(-offset[s] / grid.dmin) : 0));
      }
    } else {
      grid.d = stored_number(spec, d);
      const float zero = offset[0] - grid.d * low;  // the value of level 0
      grid.dmin = l.zero_point   ? std::clamp(std::nearbyint(-zero / grid.d), low, high)
                  : l.has_offset ? stored_number(spec, zero)
                                 : 0;
    }
    f.make_effective(grid);
    for (int i = 0; i < f.block(); i += f.spec().grain) {
      float q[kGroup];
      const std::size_t first = at + std::size_t(i);
      f.value(grid, i, f.round(grid, i, &m.weights[first]), q);
      for (int k = 0; k < f.spec().grain; ++k) {
        const double e = double(m.weights[first + std::size_t(k)]) - q[k];
        sum += m.importance[(first + std::size_t(k)) % std::size_t(m.columns)] * e * e;
      }
    }
  }
  return sum;
}

struct Case {
  const Rounder* rounder;
  const Format* format;
};

class RoundContract : public testing::TestWithParam<Case> {
 protected:
  const Rounder& rounder = *GetParam().rounder;
  const Format& format = *GetParam().format;
  const Layout& layout = format.layout();
  bool quantized = layout.scales != Layout::Scales::none;
  bool plainest = rounder.id() == "rtn";  // on purpose
  std::mt19937 random{11};

  /// Heavy-tailed weights and importances over three orders of magnitude.
  Matrix random_matrix(std::int64_t rows, std::int64_t blocks, float size = 0.05f) {
    Matrix m(format, rows, blocks * std::max(32, format.block()));
    std::student_t_distribution<float> weight(6);
    std::lognormal_distribution<float> importance(0, rounder.needs_stats() ? 1.5f : 0.0f);
    for (float& w : m.weights) w = size * weight(random);
    for (float& h : m.importance) h = importance(random);
    return m;
  }
};

TEST_P(RoundContract, BetterThanThePlainestWay) {
  Matrix m = random_matrix(37, 3);
  const auto report = m.round(rounder, 1);
  ASSERT_TRUE(report) << report.error().message();
  const auto q = m.decoded();
  if (quantized && plainest) {  // the same scales but for their last digits
    EXPECT_LT(report->weighted_error, 1.02 * plainest_error(m, true));
  } else if (quantized) {
    // Where nothing is known of the inputs, errors of large weights count more, which costs up to
    // 4% of squared error (round/blocks.cc). A range cut into 256 levels, or one with a zero point,
    // leaves little more than that to be gained.
    const bool little = layout.zero_point || (format.level_values().size() > 16 && layout.sub > 32);
    const double bound = rounder.needs_stats() || !little ? 0.95 : 1.04;
    EXPECT_LT(report->weighted_error, bound * plainest_error(m, false));
  }
  // The reported sums are of what was written; they are of positive terms with at most three
  // float32 operations each, added 32 at a time in float32: within 35 units of 2^-24.
  EXPECT_NEAR(report->weighted_error, weighted_error(m, q), 35 * 0x1p-24 * report->weighted_error);
  m.importance.assign(m.importance.size(), 1);
  EXPECT_NEAR(report->squared_error, weighted_error(m, q), 35 * 0x1p-24 * report->squared_error);
}

TEST_P(RoundContract, SameBytesForEveryThreadCountAndHeight) {
  Matrix one = random_matrix(53, 2);
  Matrix again = one;
  const auto first = one.round(rounder, 1);
  ASSERT_TRUE(first);
  for (const int threads : {2, 3}) {
    const auto report = again.round(rounder, threads);
    ASSERT_TRUE(report);
    EXPECT_EQ(one.out, again.out);
    EXPECT_EQ(first->weighted_error, report->weighted_error);
    EXPECT_EQ(first->squared_error, report->squared_error);
  }
  // A row's bytes do not depend on the rows it is rounded with.
  Matrix part(format, 1, one.columns);
  part.importance = one.importance;
  part.weights.assign(one.weights.begin() + 20 * one.columns,
                      one.weights.begin() + 21 * one.columns);
  ASSERT_TRUE(part.round(rounder, 1));
  const std::size_t bytes = part.out.size();
  EXPECT_TRUE(
      std::equal(part.out.begin(), part.out.end(), one.out.begin() + 20 * std::ptrdiff_t(bytes)));
}

TEST_P(RoundContract, ZeroAndConstantBlocks) {
  for (const float value :
       {0.0f, 1.0f, -0.37f, 6e-8f, -1e-9f, 1e-30f, 1e-42f, 60000.0f, -3e5f, 1e30f}) {
    if (!quantized && std::fabs(value) > 65504) continue;
    const bool narrow = layout.number == Layout::Number::e4m3;
    Matrix m = random_matrix(17, 1);
    m.weights.assign(m.weights.size(), value);
    const auto report = m.round(rounder, 1);
    ASSERT_TRUE(report) << report.error().message();
    for (const float q : m.decoded()) {
      ASSERT_TRUE(std::isfinite(q));
      // A constant is a level times a scale. fp16 keeps 11 bits of the scale, 2^-24 is its smallest
      // step, times the largest level; where the sub-blocks share one d, their own scales come in
      // steps of 1 / scale_max of the largest. Beyond 65504 times all of that it saturates. With
      // powers of two only the levels count, that lie up to 1 : 1.5 apart.
      // 8-bit floats keep 4 bits, down to steps of 2^-19 and up to 448 / 1024.
      const float step = layout.number == Layout::Number::power ? 0.2f
                         : narrow                               ? 0x1p-5f
                         : layout.scale_max > 0 ? std::max(0x1p-8f, 0.5f / float(layout.scale_max))
                                                : 0x1p-8f;
      if (std::fabs(value) <= (narrow ? 5.25f : 65504)) {
        ASSERT_NEAR(q, value,
                    std::max(std::fabs(value) * step, narrow ? 0x1p-20f * 12 : 0x1p-25f * 127))
            << value;
      }
    }
  }
}

TEST_P(RoundContract, ImportanceMayBeZero) {
  Matrix m = random_matrix(17, 2);
  for (std::size_t j = 0; j < m.importance.size(); j += 3) m.importance[j] = 0;
  ASSERT_TRUE(m.round(rounder, 1));
  for (const float q : m.decoded()) ASSERT_TRUE(std::isfinite(q));
  m.importance.assign(m.importance.size(), 0);
  ASSERT_TRUE(m.round(rounder, 1));
  for (const float q : m.decoded()) ASSERT_TRUE(std::isfinite(q));
}

TEST_P(RoundContract, RefusesWhatIsNotFinite) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    Matrix m = random_matrix(40, 1);
    m.weights[std::size_t(33 * m.columns + 5)] = bad;
    m.weights[std::size_t(35 * m.columns + 1)] = bad;
    const auto report = m.round(rounder, 2);
    ASSERT_FALSE(report);
    EXPECT_NE(report.error().message().find("row 33, column 5"), std::string::npos)
        << report.error().message();
  }
  if (!rounder.needs_stats()) return;
  Matrix m = random_matrix(1, 1);
  m.importance[3] = NAN;
  EXPECT_FALSE(m.round(rounder, 1));
  m.importance[3] = -1;
  EXPECT_FALSE(m.round(rounder, 1));
  m.importance.pop_back();
  EXPECT_FALSE(m.round(rounder, 1));
}

// Rows sit in lanes and no operation is fused, so every instruction set gives the same bits.
TEST_P(RoundContract, SameBytesOnEveryInstructionSet) {
  if (!quantized) return;
  const Matrix m = random_matrix(kStripRows, 1);
  const SearchSpec spec = search_spec(format);
  alignas(64) static float x[kMaxBlock * kStripRows];
  alignas(64) static SearchResult first, other;
  BlockSums first_sums{}, other_sums{};
  for (int trial = 0; trial < 8; ++trial) {
    for (float& w : x) w = m.weights[random() % m.weights.size()] * (trial == 7 ? 1e-6f : 1);
    bool have = false;
    for (const BlockSearch* search : search_registry()) {
      if (!isa_runs(search->isa) || search->joint != (spec.book.count > 0)) continue;
      SearchResult& result = have ? other : first;
      result = {};
      search->run(&spec, x, m.importance.data(), &result);
      BlockSums& sums = have ? other_sums : first_sums;
      if (!spec.nested && !search->joint)
        search->measure(&spec, x, m.importance.data(), &result, &sums);
      if (have) {
        ASSERT_EQ(std::memcmp(&first, &other, sizeof first), 0) << search->isa;
        ASSERT_EQ(std::memcmp(&first_sums, &other_sums, sizeof first_sums), 0) << search->isa;
      }
      have = true;
    }
    ASSERT_TRUE(have);
  }
}

TEST(Round, RefusesFormatsThatItCannot) {
  Matrix m(*find_format("q4_k"), 1, 256);
  const auto report = m.round(*find_rounder("rtn"), 1);
  ASSERT_FALSE(report);
  EXPECT_NE(report.error().message().find("q4_k"), std::string::npos);
}

TEST(Round, RefusesWhatDoesNotFit) {
  Matrix m(*find_format("f16"), 3, 32);
  m.weights[40] = 1e5f;
  const auto report = m.round(*find_rounder("nearest"), 1);
  ASSERT_FALSE(report);
  EXPECT_NE(report.error().message().find("row 1, column 8"), std::string::npos);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Rounder* rounder : round_registry())
    for (const Format* format : all_formats())
      if (rounder->can(*format)) all.push_back({rounder, format});
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, RoundContract, testing::ValuesIn(cases()), [](const auto& unit) {
  return std::string(unit.param.rounder->id()) + "_" + std::string(unit.param.format->id());
});

}  // namespace
}  // namespace nibble
