// Error feedback on inputs that move together: what it gains, and that its arithmetic is what it
// says.
#include "round/gptq.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "round/rows.h"

namespace nibble {
namespace {

constexpr std::int64_t kRows = 40, kColumns = 512;

ThreadPool& pool() {
  static ThreadPool one(1);
  return one;
}

/// Second moments of inputs that mix a few hidden causes, over enough tokens to be regular.
SecondMoment mixed_inputs(std::int64_t columns, std::mt19937& random) {
  const std::int64_t tokens = 4 * columns, causes = columns / 4;
  std::normal_distribution<float> normal;
  std::lognormal_distribution<float> size(0, 1);
  std::vector<float> mix(std::size_t(causes * columns)), cause(static_cast<std::size_t>(causes)),
      x(static_cast<std::size_t>(columns)), sizes(static_cast<std::size_t>(columns));
  for (float& m : mix) m = normal(random) / std::sqrt(float(causes));
  for (float& s : sizes) s = size(random);
  SecondMoment out{columns, std::uint64_t(tokens),
                   std::vector<float>(std::size_t(columns * columns))};
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (float& c : cause) c = normal(random);
    for (std::int64_t j = 0; j < columns; ++j) {
      float sum = 0.3f * normal(random);
      for (std::int64_t c = 0; c < causes; ++c)
        sum += cause[std::size_t(c)] * mix[std::size_t(c * columns + j)];
      x[std::size_t(j)] = sizes[std::size_t(j)] * sum;
    }
    for (std::int64_t j = 0; j < columns; ++j)
      for (std::int64_t k = 0; k < columns; ++k)
        out.values[std::size_t(j * columns + k)] +=
            x[std::size_t(j)] * x[std::size_t(k)] / float(tokens);
  }
  return out;
}

struct Case {
  explicit Case(const Format& f) : format(f) {
    std::mt19937 random(5);
    static const SecondMoment shared = mixed_inputs(kColumns, random);
    moment = &shared;
    std::student_t_distribution<float> weight(6);
    weights.resize(std::size_t(kRows * kColumns));
    for (float& w : weights) w = 0.05f * weight(random);
    for (std::int64_t j = 0; j < kColumns; ++j)
      mean_square.push_back(shared.values[std::size_t(j * (kColumns + 1))]);
  }

  /// The output error of a rounding.
  double error(std::string_view rounder, const FeedbackFactor* factor, int threads = 1) {
    ThreadPool pool(threads);
    out.resize(std::size_t(kRows) * format.row_bytes(std::size_t(kColumns)));
    RoundTask task;
    task.rows = kRows, task.columns = kColumns, task.format = &format, task.out = out;
    task.stats.mean_square = mean_square;
    task.stats.factor = factor;
    task.load = [&](std::int64_t begin, std::int64_t end, float* to) {
      std::copy(weights.begin() + begin * kColumns, weights.begin() + end * kColumns, to);
    };
    const auto report = find_rounder(rounder)->round(task, pool);
    EXPECT_TRUE(report) << report.error().message();
    std::vector<float> errors(weights.size());
    format.decode(out.data(), weights.size() / std::size_t(format.block()), errors.data());
    for (std::size_t i = 0; i < errors.size(); ++i) errors[i] -= weights[i];
    return output_error(*moment, errors.data(), kRows);
  }

  const Format& format;
  const SecondMoment* moment;
  std::vector<float> weights, mean_square;
  std::vector<std::byte> out;
};

class GptqTest : public testing::TestWithParam<const Format*> {};

TEST_P(GptqTest, LeavesMuchLessOutputErrorThanImportance) {
  Case c(*GetParam());
  const auto factor = factorize(*c.moment, c.format.block(), {0, 0.01}, pool());
  ASSERT_TRUE(factor) << factor.error().message();
  const double importance = c.error("importance", nullptr), fed = c.error("gptq", &*factor);
  // Three quarters of the inputs' variance lies in a quarter of the dimensions.
  EXPECT_LT(fed, 0.6 * importance);
  const std::vector<std::byte> bytes = c.out;
  EXPECT_EQ(c.error("gptq", &*factor, 3), fed);
  EXPECT_EQ(c.out, bytes);
}

TEST_P(GptqTest, WithoutMomentsItIsImportance) {
  Case c(*GetParam());
  EXPECT_EQ(c.error("gptq", nullptr), c.error("importance", nullptr));
}

std::vector<const Format*> scaled_formats() {
  std::vector<const Format*> out;
  for (const Format* format : all_formats())
    if (format->layout().scales != Layout::Scales::none) out.push_back(format);
  return out;
}

INSTANTIATE_TEST_SUITE_P(All, GptqTest, testing::ValuesIn(scaled_formats()),
                         [](const auto& param) { return std::string(param.param->id()); });

TEST(SecondMoment, FactorMakesUpForErrors) {
  constexpr std::size_t n = 480, block = 32;  // two and a half tiles
  std::mt19937 random(3);
  const SecondMoment moment = mixed_inputs(n, random);
  const auto factor = factorize(moment, block, {0.2, 0.01}, pool());
  ASSERT_TRUE(factor);
  // After errors of early columns, and what each later block makes up for in turn, no later column
  // can gain anything more under H.
  const auto h = [&](std::size_t i, std::size_t j) {
    return double(factor->h.at(std::int64_t(i), std::int64_t(j)));
  };
  const auto u = [&](std::size_t i, std::size_t j) {
    return double(factor->u.at(std::int64_t(i), std::int64_t(j)));
  };
  std::normal_distribution<double> normal;
  for (const std::size_t begin : {block, 7 * block, n - block}) {
    std::vector<double> r(n);
    for (std::size_t j = 0; j < begin; ++j) r[j] = normal(random);
    for (std::size_t k = begin; k < n; k += block)
      for (std::size_t j = k; j < k + block; ++j)
        for (std::size_t i = 0; i < k; ++i) r[j] -= r[i] * u(i, j);
    for (std::size_t j = begin; j < n; ++j) {
      double gradient = 0;
      for (std::size_t i = 0; i < n; ++i) gradient += r[i] * h(i, j);
      EXPECT_NEAR(gradient, 0, 1e-3) << j;
    }
  }
  // The last block of U inverts that of V.
  const std::size_t last = n - block;
  for (std::size_t i = last; i < n; ++i)
    for (std::size_t j = last; j < n; ++j) {
      double sum = 0;
      for (std::size_t k = i; k < n; ++k)
        for (std::size_t l = j; l < n; ++l) sum += u(i, k) * h(k, l) * u(j, l);
      EXPECT_NEAR(sum, i == j, 1e-3) << i << " " << j;
    }
}

TEST(SecondMoment, FactorIsTheSameForAnyThreads) {
  std::mt19937 random(4);
  const SecondMoment moment = mixed_inputs(448, random);
  const auto one = factorize(moment, 32, {0.2, 0.01}, pool());
  for (const int threads : {2, 5}) {
    ThreadPool many(threads);
    EXPECT_TRUE(factorize(moment, 32, {0.2, 0.01}, many)->u == one->u) << threads;
  }
}

TEST(SecondMoment, DeadAndBrokenInputs) {
  SecondMoment moment{64, 1, std::vector<float>(64 * 64)};
  EXPECT_FALSE(factorize(moment, 32, {}, pool()));
  moment.values[0] = NAN;
  EXPECT_FALSE(factorize(moment, 32, {}, pool()));
  moment.values[0] = 4;  // one column alive of 64
  const auto factor = factorize(moment, 32, {}, pool());
  ASSERT_TRUE(factor) << factor.error().message();
  for (std::int64_t i = 0; i < 64; ++i)
    for (std::int64_t j = i; j < 64; ++j) EXPECT_TRUE(std::isfinite(factor->u.at(i, j)));
}

}  // namespace
}  // namespace nibble
