// What every rounder owes, in every quantized format: checked on all of both registries.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <tuple>
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
/// steps for the sub-scales as the format has), every weight to its nearest level.
double plainest_error(const Matrix& m) {
  const Format& f = m.format;
  const Layout& l = f.layout();
  const float low = l.levels[std::size_t(l.first_code)], high = l.levels.back();
  const int subs = f.block() / l.sub;
  const auto half = [](float x) { return fp16_to_f32(f32_to_fp16(x)); };
  double sum = 0;
  for (std::size_t at = 0; at < m.weights.size(); at += std::size_t(f.block())) {
    Grid grid;
    float scale[kMaxSubBlocks], offset[kMaxSubBlocks], d = 0, dmin = 0;
    for (int s = 0; s < subs; ++s) {
      const float* x = m.weights.data() + at + s * l.sub;
      const auto [a, b] = std::minmax_element(x, x + l.sub);
      offset[s] = l.has_offset ? std::min(*a, 0.0f) : 0;
      scale[s] = l.has_offset ? (*b - offset[s]) / (high - low) : std::max(*b / high, *a / low);
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
      grid.d = l.scales == Layout::Scales::power ? std::exp2(std::ceil(std::log2(d))) : half(d);
      grid.dmin = half(offset[0]);
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

class RoundContract : public testing::TestWithParam<std::tuple<const Rounder*, const Format*>> {
 protected:
  const Rounder& rounder = *std::get<0>(GetParam());
  const Format& format = *std::get<1>(GetParam());
  const Layout& layout = format.layout();
  bool quantized = layout.scales != Layout::Scales::none;
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
  if (quantized) {
    EXPECT_LT(report->weighted_error, 0.95 * plainest_error(m));
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
      const float step = layout.scales == Layout::Scales::power ? 0.2f
                         : layout.scale_max > 0 ? std::max(0x1p-8f, 0.5f / float(layout.scale_max))
                                                : 0x1p-8f;
      if (std::fabs(value) <= 65504) {
        ASSERT_NEAR(q, value, std::max(std::fabs(value) * step, 0x1p-25f * 127)) << value;
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
  for (int trial = 0; trial < 8; ++trial) {
    for (float& w : x) w = m.weights[random() % m.weights.size()] * (trial == 7 ? 1e-6f : 1);
    bool have = false;
    for (const BlockSearch* search : search_registry()) {
      if (!isa_runs(search->isa) || search->joint != (spec.book.count > 0)) continue;
      SearchResult& result = have ? other : first;
      result = {};
      search->run(&spec, x, m.importance.data(), &result);
      if (have) {
        ASSERT_EQ(std::memcmp(&first, &other, sizeof first), 0) << search->isa;
      }
      have = true;
    }
    ASSERT_TRUE(have);
  }
}

TEST(Round, RefusesWhatDoesNotFit) {
  Matrix m(*find_format("f16"), 3, 32);
  m.weights[40] = 1e5f;
  const auto report = m.round(*find_rounder("nearest"), 1);
  ASSERT_FALSE(report);
  EXPECT_NE(report.error().message().find("row 1, column 8"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    All, RoundContract,
    testing::Combine(testing::ValuesIn(round_registry().begin(), round_registry().end()),
                     testing::ValuesIn(format_registry().begin(), format_registry().end())),
    [](const auto& unit) {
      return std::string(std::get<0>(unit.param)->id()) + "_" +
             std::string(std::get<1>(unit.param)->id());
    });

}  // namespace
}  // namespace nibble
