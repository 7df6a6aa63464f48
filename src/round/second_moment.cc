#include "round/second_moment.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/profile.h"

extern "C" {
// LAPACK, column-major.
void dpotrf_(const char* triangle, const int* n, double* a, const int* stride, int* info);
void dtrtri_(const char* triangle, const char* diagonal, const int* n, double* a, const int* stride,
             int* info);
}

namespace nibble {
namespace {

constexpr double kMostDamping = 10;  // of the mean of the diagonal

std::vector<std::int64_t> by_weight(const SecondMoment& moment, int block) {
  const std::int64_t blocks = moment.columns / block;
  std::vector<double> weight(static_cast<std::size_t>(blocks));
  for (std::int64_t j = 0; j < moment.columns; ++j)
    weight[std::size_t(j / block)] += moment.values[std::size_t(j * (moment.columns + 1))];
  std::vector<std::int64_t> order(static_cast<std::size_t>(blocks));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return weight[std::size_t(a)] > weight[std::size_t(b)];
  });
  return order;
}

/// The regularized H of the columns in an order, relative to the mean of the diagonal: the loss
/// only matters up to a factor.
struct Regularized {
  const SecondMoment& moment;
  std::vector<std::int64_t> columns;  // where each comes from
  double mean, damping;
  float keep;

  std::int64_t size() const { return moment.columns; }
  float at(std::int64_t i, std::int64_t k) const {
    const float value = moment.values[std::size_t(columns[std::size_t(i)] * moment.columns +
                                                  columns[std::size_t(k)])];
    return float(i == k ? value / mean + damping : keep * value / mean);
  }
};

/// U for the columns of h, or an empty vector if h is not positive definite: with the order of rows
/// and columns reversed, h = L L^T, and U is the inverse of L, reversed back.
std::vector<float> inverse_factor(const Regularized& h) {
  const std::int64_t n = h.size();
  std::vector<double> a(static_cast<std::size_t>(n * n));
  // A row-major lower triangle is a column-major upper one.
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t k = 0; k <= i; ++k) a[std::size_t(i * n + k)] = h.at(n - 1 - i, n - 1 - k);
  const int size = int(n);
  int info = 0;
  dpotrf_("U", &size, a.data(), &size, &info);
  if (info == 0) dtrtri_("U", "N", &size, a.data(), &size, &info);
  if (info != 0) return {};
  std::vector<float> u(a.size());
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t k = j; k < n; ++k) {
      const double value = a[std::size_t((n - 1 - j) * n + n - 1 - k)];
      if (!std::isfinite(value)) return {};
      u[std::size_t(j * n + k)] = float(value);
    }
  return u;
}

}  // namespace

Result<FeedbackFactor> factorize(const SecondMoment& moment, int block,
                                 const Regularization& regularization) {
  const std::int64_t n = moment.columns;
  NIBBLE_CHECK(n % block == 0 && std::int64_t(moment.values.size()) == n * n);
  double trace = 0;
  for (std::int64_t j = 0; j < n; ++j) trace += moment.values[std::size_t(j * (n + 1))];
  const double mean = trace / double(n);
  if (!(mean > 0 && std::isfinite(float(mean))))
    return fail(ErrorCode::invalid, "its inputs are {}",
                mean == 0 ? "all zero on the calibration text" : "not finite");
  // Cholesky and the inverse of a triangle: n^3 / 3 each.
  const profile::Timed timed(profile::Phase::factors, 2.0 / 3 * double(n) * double(n) * double(n));
  FeedbackFactor out;
  out.order = by_weight(moment, block);
  Regularized h{moment, {}, mean, regularization.damping, float(1 - regularization.shrinkage)};
  for (const std::int64_t b : out.order)
    for (std::int64_t j = 0; j < block; ++j) h.columns.push_back(b * block + j);
  for (; h.damping <= kMostDamping; h.damping *= 10) {
    out.u = inverse_factor(h);
    if (out.u.empty()) continue;
    out.h.resize(out.u.size());
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t k = 0; k < n; ++k) out.h[std::size_t(i * n + k)] = h.at(i, k);
    return out;
  }
  return fail(ErrorCode::invalid, "the second moments of its inputs are singular");
}

double output_error(const SecondMoment& moment, const float* errors, std::int64_t rows) {
  const int n = int(moment.columns);
  constexpr std::int64_t kRows = 64;
  std::vector<float> product(static_cast<std::size_t>(kRows * n));
  double sum = 0;
  for (std::int64_t r = 0; r < rows; r += kRows) {
    const int count = int(std::min(kRows, rows - r));
    cblas_ssymm(CblasRowMajor, CblasRight, CblasUpper, count, n, 1, moment.values.data(), n,
                errors + r * n, n, 0, product.data(), n);
    for (int i = 0; i < count; ++i) {
      double row = 0;
      for (int j = 0; j < n; ++j)
        row += double(product[std::size_t(i * n + j)]) * double(errors[(r + i) * n + j]);
      sum += row;
    }
  }
  return sum;
}

}  // namespace nibble
