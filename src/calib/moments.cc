#include "calib/moments.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>

#include "base/cpu.h"
#include "base/profile.h"

namespace nibble {
namespace {

constexpr std::int64_t kPanel = 192;  // rows of the moment that one thread sums at a time

/// nullptr: this processor has no products of pairs.
const Gram* active_gram() {
  for (const Gram* gram : gram_registry())
    if (gram->isa == active_isa() && gram->pack) return gram;
  return nullptr;
}

/// The pool has the threads; more of OpenBLAS's would change the order of its sums.
void one_blas_thread() {
  static const bool single = (openblas_set_num_threads(1), true);
  (void)single;
}

}  // namespace

void MomentSums::add(const std::string& tap, const float* values, std::int64_t tokens,
                     std::int64_t width, ThreadPool& pool) {
  SecondMoment& sum = taps_[tap];
  if (sum.values.empty()) {
    sum.columns = width;
    sum.values.resize(std::size_t(width * width));
    sum.largest.resize(std::size_t(width));
  }
  sum.count += std::uint64_t(tokens);
  const profile::Timed timed(profile::Phase::moments,
                             double(tokens) * double(width) * double(width));  // one triangle
  static const Gram* const gram = active_gram();
  if (gram)
    add_pairs(*gram, values, tokens, sum, pool);
  else
    add_products(values, tokens, sum, pool);
}

void MomentSums::add_pairs(const Gram& gram, const float* values, std::int64_t tokens,
                           SecondMoment& sum, ThreadPool& pool) {
  constexpr std::int64_t kPanelPairs = kGramColumns * (kGramTokens / 2);
  const std::int64_t width = sum.columns, panels = (width + kGramColumns - 1) / kGramColumns;
  const auto columns = [&](std::int64_t p) {
    return int(std::min<std::int64_t>(kGramColumns, width - p * kGramColumns));
  };
  pairs_.resize(std::size_t(panels * kPanelPairs));
  for (std::int64_t t = 0; t < tokens; t += kGramTokens) {
    const std::int64_t count = std::min<std::int64_t>(kGramTokens, tokens - t);
    pool.run(panels, 1, [&](std::int64_t p, std::int64_t) {
      gram.pack(values + t * width + p * kGramColumns, width, count, columns(p),
                pairs_.data() + p * kPanelPairs, sum.largest.data() + p * kGramColumns);
    });
    pool.run(panels, 1, [&](std::int64_t a, std::int64_t) {
      for (std::int64_t b = a; b < panels; ++b)
        gram.add(pairs_.data() + a * kPanelPairs, columns(a), pairs_.data() + b * kPanelPairs,
                 columns(b), (count + 1) / 2, sum.values.data() + (a * width + b) * kGramColumns,
                 width);
    });
  }
}

void MomentSums::add_products(const float* values, std::int64_t tokens, SecondMoment& sum,
                              ThreadPool& pool) {
  one_blas_thread();
  const std::int64_t width = sum.columns;
  const int n = int(width), k = int(tokens);
  pool.run((width + kPanel - 1) / kPanel, 1, [&](std::int64_t panel, std::int64_t) {
    const std::int64_t begin = panel * kPanel, end = std::min(begin + kPanel, width);
    float* out = sum.values.data() + begin * width;
    cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, int(end - begin), k, 1, values + begin, n, 1,
                out + begin, n);
    if (end < width)
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, int(end - begin), int(width - end), k, 1,
                  values + begin, n, values + end, n, 1, out + end, n);
    for (std::int64_t t = 0; t < tokens; ++t)
      for (std::int64_t j = begin; j < end; ++j)
        sum.largest[std::size_t(j)] =
            std::max(sum.largest[std::size_t(j)], std::abs(values[t * width + j]));
  });
}

std::optional<SecondMoment> MomentSums::take(const std::string& tap) {
  const auto found = taps_.extract(tap);
  if (found.empty()) return std::nullopt;
  SecondMoment m = std::move(found.mapped());
  const std::size_t n = std::size_t(m.columns);
  const float scale = 1 / float(m.count);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = i; j < n; ++j)
      m.values[i * n + j] = m.values[j * n + i] = m.values[i * n + j] * scale;
  return m;
}

void CrossSums::add(const std::string& tap, const float* a, const float* x, std::int64_t tokens,
                    std::int64_t width, ThreadPool& pool) {
  SecondMoment& sum = taps_[tap];
  sum.columns = width;
  sum.values.resize(std::size_t(width * width));
  sum.count += std::uint64_t(tokens);
  const profile::Timed timed(profile::Phase::moments,
                             2 * double(tokens) * double(width) * double(width));
  one_blas_thread();
  const int n = int(width), k = int(tokens);
  pool.run((width + kPanel - 1) / kPanel, 1, [&](std::int64_t panel, std::int64_t) {
    const std::int64_t begin = panel * kPanel, end = std::min(begin + kPanel, width);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, int(end - begin), n, k, 1, a + begin, n, x,
                n, 1, sum.values.data() + begin * width, n);
  });
}

std::optional<SecondMoment> CrossSums::take(const std::string& tap) {
  const auto found = taps_.extract(tap);
  if (found.empty()) return std::nullopt;
  SecondMoment m = std::move(found.mapped());
  const float scale = 1 / float(m.count);
  for (float& value : m.values) value *= scale;
  return m;
}

}  // namespace nibble
