#include "round/second_moment.h"

#include <cblas.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <numeric>

#include "base/profile.h"

extern "C" {
void dpotrf_(const char* triangle, const int* n, double* a, const int* stride,
             int* info);  // LAPACK
}

namespace nibble {
namespace {

constexpr double kMostDamping = 10;  // of the mean of the diagonal

std::vector<std::int64_t> by_weight(const SecondMoment& moment, int block) {
  const std::int64_t blocks = moment.columns / block;
  std::vector<double> weight(static_cast<std::size_t>(blocks));
  for (std::int64_t j = 0; j < moment.columns; ++j)
    weight[std::size_t(j / block)] += moment.mean_square(j);
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

/// A square matrix [n][n] in tiles of kTile rows and columns, worked on by all threads. Every tile
/// is computed by one thread in one order, so results do not depend on their number.
class Tiled {
 public:
  Tiled(std::int64_t n, ThreadPool& pool)
      : n_(n),
        tiles_((n + kTile - 1) / kTile),
        pool_(pool),
        a_(std::make_unique<double[]>(std::size_t(n * n))) {
    openblas_set_num_threads(1);
  }

  double& at(std::int64_t i, std::int64_t j) { return a_[std::size_t(i * n_ + j)]; }

  /// value(i, j) for the lower triangle.
  template <class F>
  void fill_lower(const F& value) {
    pool_.run(n_, 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        for (std::int64_t j = 0; j <= i; ++j) at(i, j) = value(i, j);
    });
  }

  /// The lower triangle becomes L with L L^T = what it was. False if that is not positive definite.
  bool cholesky() {
    for (std::int64_t k = 0; k < tiles_; ++k) {
      const int size = rows(k), stride = int(n_);
      int info = 0;
      dpotrf_("U", &size, tile(k, k), &stride, &info);  // a row-major lower triangle is its upper
      if (info != 0) return false;
      pool_.run(tiles_ - k - 1, 1, [&](std::int64_t t, std::int64_t) {
        const std::int64_t i = k + 1 + t;
        cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, rows(i), size,
                    1, tile(k, k), stride, tile(i, k), stride);
      });
      const std::int64_t left = tiles_ - k - 1;
      pool_.run(left * (left + 1) / 2, 1, [&](std::int64_t t, std::int64_t) {
        const auto [i, j] = pair(t, k + 1);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows(i), rows(j), size, -1, tile(i, k),
                    stride, tile(j, k), stride, 1, tile(i, j), stride);
      });
    }
    return true;
  }

  /// out(i, j, value) for the lower triangle of the inverse of the lower triangle.
  template <class F>
  void invert_lower(const F& out) {
    pool_.run(tiles_, 1, [&](std::int64_t k, std::int64_t) {
      const std::int64_t begin = k * kTile, height = n_ - begin;
      const int width = rows(k);
      std::vector<double> x(std::size_t(height * width));
      for (int j = 0; j < width; ++j) x[std::size_t(j * (width + 1))] = 1;
      cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, int(height),
                  width, 1, tile(k, k), int(n_), x.data(), width);
      for (std::int64_t i = 0; i < height; ++i)
        for (std::int64_t j = 0; j < width && j <= i; ++j)
          out(begin + i, begin + j, x[std::size_t(i * width + j)]);
    });
  }

 private:
  static constexpr std::int64_t kTile = 192;

  double* tile(std::int64_t i, std::int64_t j) { return &at(i * kTile, j * kTile); }
  int rows(std::int64_t i) const { return int(std::min(kTile, n_ - i * kTile)); }
  /// The t-th tile of a lower triangle of tiles that begins at `first`.
  static std::pair<std::int64_t, std::int64_t> pair(std::int64_t t, std::int64_t first) {
    std::int64_t i = 0;
    while (t > i) t -= ++i;
    return {first + i, first + t};
  }

  std::int64_t n_, tiles_;
  ThreadPool& pool_;
  std::unique_ptr<double[]> a_;
};

/// U for the columns of h, or an empty vector if h is not positive definite: with the order of rows
/// and columns reversed, h = L L^T, and U is the inverse of L, reversed back.
std::vector<float> inverse_factor(const Regularized& h, ThreadPool& pool) {
  const std::int64_t n = h.size();
  Tiled a(n, pool);
  a.fill_lower([&](std::int64_t i, std::int64_t j) { return h.at(n - 1 - i, n - 1 - j); });
  if (!a.cholesky()) return {};
  std::vector<float> u(static_cast<std::size_t>(n * n));
  std::atomic<bool> finite = true;
  a.invert_lower([&](std::int64_t i, std::int64_t j, double value) {
    if (!std::isfinite(value)) finite = false;
    u[std::size_t((n - 1 - i) * n + n - 1 - j)] = float(value);
  });
  return finite ? u : std::vector<float>{};
}

}  // namespace

Result<FeedbackFactor> factorize(const SecondMoment& moment, int block,
                                 const Regularization& regularization, ThreadPool& pool) {
  const std::int64_t n = moment.columns;
  NIBBLE_CHECK(n % block == 0 && std::int64_t(moment.values.size()) == n * n);
  double trace = 0;
  for (std::int64_t j = 0; j < n; ++j) trace += moment.mean_square(j);
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
    out.u = inverse_factor(h, pool);
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
