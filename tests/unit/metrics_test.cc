#include "eval/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace nibble {
namespace {

std::vector<float> random_logits(std::size_t n, unsigned seed, float spread) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> x(n);
  for (float& v : x) v = normal(generator);
  return x;
}

double exact_log_sum_exp(const std::vector<float>& x) {
  long double sum = 0;
  for (const float v : x) sum += std::exp((long double)v);
  return double(std::log(sum));
}

// exp_negative is within 3e-7 of exp, and 64 additions of one lane add at most 64 * 6e-8: the log
// of the sum is within 5e-6 absolutely.
TEST(Metrics, LogSumExpMatchesLongDouble) {
  for (const std::size_t n : {1u, 15u, 16u, 17u, 1000u, 49152u})
    for (const float spread : {0.1f, 3.0f, 20.0f}) {
      const auto x = random_logits(n, unsigned(n), spread);
      EXPECT_NEAR(log_sum_exp(x), exact_log_sum_exp(x),
                  5e-6 + 1e-7 * std::fabs(exact_log_sum_exp(x)));
    }
}

TEST(Metrics, DivergenceMatchesLongDouble) {
  const auto a = random_logits(49152, 1, 3), b = random_logits(49152, 2, 3);
  const double za = exact_log_sum_exp(a), zb = exact_log_sum_exp(b);
  long double expected = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    expected +=
        std::exp((long double)b[i] - zb) * (((long double)b[i] - zb) - ((long double)a[i] - za));
  const Comparison c = compare_logits(a, b, 7);
  EXPECT_NEAR(c.kld, double(expected), 2e-5);
  EXPECT_NEAR(c.nll, za - double(a[7]), 1e-5);
  EXPECT_NEAR(c.reference_nll, zb - double(b[7]), 1e-5);
  EXPECT_FALSE(c.same_top);
}

TEST(Metrics, AModelDoesNotDivergeFromItself) {
  const auto a = random_logits(1000, 3, 5);
  auto shifted = a;  // the same distribution: logits are defined up to a constant
  for (float& v : shifted) v += 4;
  EXPECT_LT(compare_logits(a, shifted, 0).kld, 1e-5);
  EXPECT_TRUE(compare_logits(a, shifted, 0).same_top);
}

TEST(Metrics, HugeLogitsStayFinite) {
  const std::vector<float> a = {1e30f, -1e30f, 0}, b = {0, 1e4f, 0};
  const Comparison c = compare_logits(a, a, 1);
  EXPECT_TRUE(std::isfinite(c.nll));
  EXPECT_EQ(c.kld, 0);
  EXPECT_TRUE(std::isfinite(compare_logits(b, b, 0).kld));
}

TEST(Metrics, Statistics) {
  const std::vector<double> v = {1, 2, 3, 4};
  EXPECT_DOUBLE_EQ(mean_of(v).value, 2.5);
  EXPECT_NEAR(mean_of(v).standard_error, std::sqrt(5.0 / 3 / 4), 1e-12);
  EXPECT_DOUBLE_EQ(quantile(v, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(quantile(v, 1), 4);
  EXPECT_DOUBLE_EQ(mean_of({}).value, 0);
}

}  // namespace
}  // namespace nibble
