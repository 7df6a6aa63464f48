#include "round/second_moment.h"

#include <cblas.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>

#include "base/profile.h"

extern "C" {
void spotrf_(const char* triangle, const int* n, float* a, const int* stride,
             int* info);  // LAPACK
void strtri_(const char* triangle, const char* diagonal, const int* n, float* a, const int* stride,
             int* info);
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

constexpr int kPanel = 32;          // columns that error feedback reads together
constexpr std::int64_t kRows = 64;  // that a thread moves at a time

/// H of the columns in an order, relative to the mean of the diagonal: the loss only matters up to
/// a factor. The diagonal is as it was, the rest shrunk.
ColumnPanels shrunk(const SecondMoment& moment, const std::vector<std::int64_t>& order, int block,
                    double mean, double shrinkage, ThreadPool& pool) {
  const std::int64_t n = moment.columns;
  ColumnPanels h(n, std::min(block, kPanel), false);
  const int width = h.width();
  const auto column = [&](std::int64_t k) {
    return order[std::size_t(k / block)] * block + k % block;
  };
  const float diagonal = float(1 / mean), other = float((1 - shrinkage) / mean);
  pool.run(n, kRows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t k = 0; k < n; k += width) {
      float* out = h.panel(k / width) + begin * width;
      for (std::int64_t i = begin; i < end; ++i, out += width) {
        const float* from = moment.values.data() + column(i) * n + column(k);
        for (int w = 0; w < width; ++w) out[w] = from[w] * other;
        if (i >= k && i < k + width) out[i - k] = from[i - k] * diagonal;
      }
    }
  });
  return h;
}

void add_to_diagonal(ColumnPanels& h, std::int64_t n, float value) {
  for (std::int64_t i = 0; i < n; ++i)
    h.panel(i / h.width())[i * h.width() + i % h.width()] += value;
}

/// A square matrix [n][n] in tiles of kTile rows and columns, worked on by all threads. Every tile
/// is computed by one thread in one order, so results do not depend on their number.
class Tiled {
 public:
  Tiled(std::int64_t n, ThreadPool& pool)
      : n_(n),
        tiles_((n + kTile - 1) / kTile),
        pool_(pool),
        a_(std::make_unique<float[]>(std::size_t(n * n))) {
    openblas_set_num_threads(1);
  }

  float& at(std::int64_t i, std::int64_t j) { return a_[std::size_t(i * n_ + j)]; }

  /// Takes the lower triangle of h with the order of rows and columns reversed.
  void take_reversed(const ColumnPanels& h) {
    const int width = h.width();
    pool_.run(n_, kRows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        for (std::int64_t p = (n_ - 1 - i) / width; p < n_ / width; ++p) {
          const float* from = h.panel(p) + (n_ - 1 - i) * width;
          float* const to = &at(i, n_ - 1 - p * width);
          for (int w = 0; w < width; ++w) to[-w] = from[w];
        }
    });
  }

  /// The lower triangle becomes L with L L^T = what it was. False if that is not positive definite.
  bool cholesky() {
    for (std::int64_t k = 0; k < tiles_; ++k) {
      const int size = rows(k), stride = int(n_);
      int info = 0;
      spotrf_("U", &size, tile(k, k), &stride, &info);  // a row-major lower triangle is its upper
      if (info != 0) return false;
      pool_.run(tiles_ - k - 1, 1, [&](std::int64_t t, std::int64_t) {
        const std::int64_t i = k + 1 + t;
        cblas_strsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, rows(i), size,
                    1, tile(k, k), stride, tile(i, k), stride);
      });
      const std::int64_t left = tiles_ - k - 1;
      pool_.run(left * (left + 1) / 2, 1, [&](std::int64_t t, std::int64_t) {
        const auto [i, j] = pair(t, k + 1);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows(i), rows(j), size, -1, tile(i, k),
                    stride, tile(j, k), stride, 1, tile(i, j), stride);
      });
    }
    return true;
  }

  /// Of the lower triangle: diagonal blocks become their inverses, what is below is multiplied by
  /// these.
  void divide_blocks(int block) {
    const int stride = int(n_);
    pool_.run(n_ / block, 1, [&](std::int64_t b, std::int64_t) {
      const std::int64_t begin = b * block, end = begin + block;
      int info = 0;
      if (end < n_)
        cblas_strsm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit,
                    int(n_ - end), block, 1, &at(begin, begin), stride, &at(end, begin), stride);
      strtri_("U", "N", &block, &at(begin, begin), &stride, &info);
    });
  }

 private:
  static constexpr std::int64_t kTile = 192;

  float* tile(std::int64_t i, std::int64_t j) { return &at(i * kTile, j * kTile); }
  int rows(std::int64_t i) const { return int(std::min(kTile, n_ - i * kTile)); }
  /// The t-th tile of a lower triangle of tiles that begins at `first`.
  static std::pair<std::int64_t, std::int64_t> pair(std::int64_t t, std::int64_t first) {
    std::int64_t i = 0;
    while (t > i) t -= ++i;
    return {first + i, first + t};
  }

  std::int64_t n_, tiles_;
  ThreadPool& pool_;
  std::unique_ptr<float[]> a_;
};

/// u of FeedbackFactor, or nothing if h is not positive definite. With the order of rows and
/// columns reversed, h = L L^T: V is L, reversed back.
std::optional<ColumnPanels> block_factor(const ColumnPanels& h, std::int64_t n, int block,
                                         ThreadPool& pool) {
  Tiled a(n, pool);
  a.take_reversed(h);
  if (!a.cholesky()) return std::nullopt;
  a.divide_blocks(block);
  const int width = h.width();
  ColumnPanels u(n, width, true);
  std::atomic<bool> finite = true;
  pool.run(n, kRows, [&](std::int64_t begin, std::int64_t end) {
    bool all = true;
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t p = i / width; p < n / width; ++p) {
        const float* const from = &a.at(n - 1 - i, n - 1 - p * width);
        float* const to = u.panel(p) + i * width;
        for (std::int64_t w = std::max<std::int64_t>(0, i - p * width); w < width; ++w) {
          to[w] = from[-w];
          all &= std::isfinite(to[w]);
        }
      }
    if (!all) finite = false;
  });
  if (!finite) return std::nullopt;
  return u;
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
  const profile::Timed timed(profile::Phase::factors,
                             double(n) * double(n) * (double(n) / 3 + double(block)));
  FeedbackFactor out;
  out.order = by_weight(moment, block);
  out.h = shrunk(moment, out.order, block, mean, regularization.shrinkage, pool);
  double damped = 0;
  for (double damping = regularization.damping; damping <= kMostDamping; damping *= 10) {
    add_to_diagonal(out.h, n, float(damping - std::exchange(damped, damping)));
    auto u = block_factor(out.h, n, block, pool);
    if (!u) continue;
    out.u = std::move(*u);
    return out;
  }
  return fail(ErrorCode::invalid, "the second moments of its inputs are singular");
}

std::vector<float> drift_correction(const SecondMoment& moment, const SecondMoment& cross,
                                    const FeedbackFactor& factor, ThreadPool& pool) {
  const std::int64_t n = moment.columns, block = n / std::int64_t(factor.order.size());
  double trace = 0;
  for (std::int64_t j = 0; j < n; ++j) trace += moment.mean_square(j);
  const float scale = float(double(n) / trace);  // factor.h is relative to the mean
  const auto column = [&](std::int64_t k) {
    return factor.order[std::size_t(k / block)] * block + k % block;
  };
  Tiled h(n, pool);
  pool.run(n, kRows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t j = 0; j <= i; ++j) h.at(i, j) = factor.h.at(i, j);
  });
  if (!h.cholesky()) return {};
  std::vector<float> out(std::size_t(n * n));
  pool.run((n + kRows - 1) / kRows, 1, [&](std::int64_t panel, std::int64_t) {
    const std::int64_t begin = panel * kRows, count = std::min(kRows, n - begin);
    std::vector<float> rows(std::size_t(count * n));
    for (std::int64_t i = 0; i < count; ++i)
      for (std::int64_t k = 0; k < n; ++k)
        rows[std::size_t(i * n + k)] = cross.values[std::size_t((begin + i) * n + column(k))];
    for (const CBLAS_TRANSPOSE form : {CblasTrans, CblasNoTrans})
      cblas_strsm(CblasRowMajor, CblasRight, CblasLower, form, CblasNonUnit, int(count), int(n),
                  form == CblasTrans ? scale : 1, &h.at(0, 0), int(n), rows.data(), int(n));
    for (std::int64_t i = 0; i < count; ++i)
      for (std::int64_t k = 0; k < n; ++k)
        out[std::size_t((begin + i) * n + column(k))] = rows[std::size_t(i * n + k)];
  });
  return out;
}

namespace {

/// sum over rows of a M b^T, of an M that is symmetric or not.
double bilinear(const SecondMoment& moment, bool symmetric, const float* a, const float* b,
                std::int64_t rows) {
  const int n = int(moment.columns);
  std::vector<float> product(static_cast<std::size_t>(kRows * n));
  double sum = 0;
  for (std::int64_t r = 0; r < rows; r += kRows) {
    const int count = int(std::min(kRows, rows - r));
    if (symmetric)
      cblas_ssymm(CblasRowMajor, CblasRight, CblasUpper, count, n, 1, moment.values.data(), n,
                  a + r * n, n, 0, product.data(), n);
    else
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, count, n, n, 1, a + r * n, n,
                  moment.values.data(), n, 0, product.data(), n);
    for (int i = 0; i < count; ++i) {
      double row = 0;
      for (int j = 0; j < n; ++j)
        row += double(product[std::size_t(i * n + j)]) * double(b[(r + i) * n + j]);
      sum += row;
    }
  }
  return sum;
}

}  // namespace

double output_error(const SecondMoment& moment, const float* errors, std::int64_t rows) {
  return bilinear(moment, true, errors, errors, rows);
}

/// (w + e) x - w (x + d) = e x - w d.
double output_error(const SecondMoment& moment, const Drift& drift, const float* weights,
                    const float* errors, std::int64_t rows) {
  return bilinear(moment, true, errors, errors, rows) -
         2 * bilinear(drift.held_out, false, weights, errors, rows) +
         bilinear(drift.square, true, weights, weights, rows);
}

}  // namespace nibble
