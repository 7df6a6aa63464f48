#include "quantize/speed.h"

#include <cblas.h>

#include <algorithm>
#include <chrono>
#include <vector>

extern "C" {
void spotrf_(const char* triangle, const int* n, float* a, const int* stride,
             int* info);  // LAPACK
}

namespace nibble {
namespace {

constexpr int kRounds = 4;

/// Seconds of the fastest of some runs.
template <class F>
double fastest(const F& f) {
  double best = 1e30;
  for (int i = 0; i < kRounds; ++i) {
    const auto start = std::chrono::steady_clock::now();
    f();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    best = std::min(best, taken.count());
  }
  return best;
}

}  // namespace

double product_flops(ThreadPool& pool, std::int64_t rows, std::int64_t columns,
                     std::int64_t inner) {
  openblas_set_num_threads(1);  // the pool has the threads
  const auto values = [](std::int64_t n) { return std::vector<float>(std::size_t(n), 0.5f); };
  const std::vector<float> a = values(rows * inner), b = values(inner * columns);
  std::vector<float> c = values(rows * columns);
  const std::int64_t panel = (rows + pool.size() - 1) / pool.size();
  const double seconds = fastest([&] {
    pool.run(rows, panel, [&](std::int64_t begin, std::int64_t end) {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, int(end - begin), int(columns),
                  int(inner), 1, a.data() + begin * inner, int(inner), b.data(), int(columns), 0,
                  c.data() + begin * columns, int(columns));
    });
  });
  return 2.0 * double(rows) * double(columns) * double(inner) / seconds;
}

double cholesky_flops(std::int64_t n) {
  openblas_set_num_threads(1);
  const int size = int(n);
  std::vector<float> a(std::size_t(n * n));
  const double seconds = fastest([&] {
    for (std::int64_t i = 0; i < n; ++i) {
      std::fill_n(a.begin() + i * n, n, 0.5f);
      a[std::size_t(i * (n + 1))] = float(n);
    }
    int info = 0;
    spotrf_("U", &size, a.data(), &size, &info);
  });
  return double(n) * double(n) * double(n) / 3 / seconds;
}

}  // namespace nibble
