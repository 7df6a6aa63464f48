#include "calib/moments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace nibble {
namespace {

struct Rows {
  std::int64_t tokens, width;
  std::vector<float> values;

  float at(std::int64_t t, std::int64_t j) const { return values[std::size_t(t * width + j)]; }
};

template <class Value>
Rows make_rows(std::int64_t tokens, std::int64_t width, Value value) {
  Rows rows{tokens, width, std::vector<float>(std::size_t(tokens * width))};
  for (float& each : rows.values) each = value();
  return rows;
}

/// The rows are added in two parts, neither a multiple of what is summed at a time.
SecondMoment moment_of(const Rows& rows, int threads) {
  ThreadPool pool(threads);
  MomentSums sums;
  const std::int64_t first = std::min<std::int64_t>(rows.tokens, 7);
  sums.add("tap", rows.values.data(), first, rows.width, pool);
  if (rows.tokens > first)
    sums.add("tap", rows.values.data() + first * rows.width, rows.tokens - first, rows.width, pool);
  return *sums.take("tap");
}

/// sum_t |x_ti x_tj| / tokens, or without the bars.
double mean_product(const Rows& rows, std::int64_t i, std::int64_t j, bool absolute) {
  double sum = 0;
  for (std::int64_t t = 0; t < rows.tokens; ++t) {
    const double product = double(rows.at(t, i)) * double(rows.at(t, j));
    sum += absolute ? std::abs(product) : product;
  }
  return sum / double(rows.tokens);
}

TEST(Moments, OfSmallIntegersAreExact) {
  std::mt19937 random(1);
  for (const auto& [tokens, width] :
       {std::pair(1, 1), std::pair(8, 32), std::pair(1031, 70), std::pair(64, 448)}) {
    // Sums of at most 1031 products of at most 64: no rounding anywhere but in the mean.
    const Rows rows = make_rows(tokens, width, [&] { return float(int(random() % 17)) - 8; });
    const SecondMoment found = moment_of(rows, 1);
    EXPECT_EQ(found.count, std::uint64_t(tokens));
    for (std::int64_t i = 0; i < width; ++i) {
      float largest = 0;
      for (std::int64_t t = 0; t < tokens; ++t)
        largest = std::max(largest, std::abs(rows.at(t, i)));
      EXPECT_EQ(found.largest[std::size_t(i)], largest);
      for (std::int64_t j = 0; j < width; ++j)
        ASSERT_NEAR(found.values[std::size_t(i * width + j)], mean_product(rows, i, j, false),
                    0x1p-22 * mean_product(rows, i, j, true))
            << tokens << " tokens, " << i << ", " << j;
    }
  }
}

TEST(Moments, KeepAtLeastEightBitsOfTheInputs) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  const Rows rows = make_rows(600, 100, [&] { return normal(random); });
  const SecondMoment found = moment_of(rows, 1);
  for (std::int64_t i = 0; i < rows.width; ++i)
    for (std::int64_t j = 0; j < rows.width; ++j)
      // Each factor is off by 2^-9 of itself; the sum of 600 float32 products by 600 * 2^-24.
      ASSERT_NEAR(found.values[std::size_t(i * rows.width + j)], mean_product(rows, i, j, false),
                  (0x1.01p-8 + 600 * 0x1p-24) * mean_product(rows, i, j, true));
}

TEST(Moments, AreTheSameForAnyThreads) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  const Rows rows = make_rows(700, 480, [&] { return normal(random); });
  const SecondMoment one = moment_of(rows, 1);
  for (const int threads : {2, 5}) {
    const SecondMoment many = moment_of(rows, threads);
    EXPECT_EQ(many.values, one.values) << threads;
    EXPECT_EQ(many.largest, one.largest) << threads;
  }
}

TEST(Moments, OfATapThatNothingReachedAreNone) {
  MomentSums sums;
  EXPECT_FALSE(sums.take("tap"));
}

TEST(CrossSums, OfSmallIntegersAreExactAndTheSameForAnyThreads) {
  std::mt19937 random(4);
  const auto value = [&] { return float(int(random() % 17)) - 8; };
  const Rows a = make_rows(500, 210, value), x = make_rows(500, 210, value);
  std::vector<SecondMoment> found;
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    CrossSums sums;
    sums.add("tap", a.values.data(), x.values.data(), 300, 210, pool);
    sums.add("tap", a.values.data() + 300 * 210, x.values.data() + 300 * 210, 200, 210, pool);
    found.push_back(*sums.take("tap"));
    EXPECT_FALSE(sums.take("tap"));
  }
  EXPECT_EQ(found[0].values, found[1].values);
  EXPECT_EQ(found[0].count, 500u);
  for (std::int64_t i = 0; i < 210; ++i)
    for (std::int64_t j = 0; j < 210; ++j) {
      double sum = 0, size = 0;
      for (std::int64_t t = 0; t < 500; ++t) {
        const double product = double(a.at(t, i)) * double(x.at(t, j));
        sum += product / 500, size += std::abs(product) / 500;
      }
      // No rounding anywhere but in the mean: of 1 / 500, and of the product with it.
      ASSERT_NEAR(found[0].values[std::size_t(i * 210 + j)], sum, 0x1p-22 * size);
    }
}

}  // namespace
}  // namespace nibble
