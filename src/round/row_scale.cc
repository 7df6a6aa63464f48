// The search of blocks.cc, with sums over whole rows: several scales around each row's range are
// tried, each is refitted in closed form for the codes that it gives, and the best is refined.
#include "round/row_scale.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "round/rows.h"

namespace nibble {
namespace {

constexpr int kTries = 12;
constexpr int kSettle = 2;  // refits of the best, each rounded as stored
// How many more steps than there are levels the range may span: the largest of many weights is
// better clipped than that of a few, down to 60% of it with 16 levels.
constexpr double kReach = 10;

using Lanes = std::array<double, kStripRows>;

/// Weighted sums over a row that do not depend on its codes, and its range.
struct Range {
  Lanes h{}, x{}, low{}, high{};
};

/// With the levels q that some scales give.
struct Sums {
  Lanes qq{}, q{}, xq{}, error{};
};

class Fit {
 public:
  Fit(const SearchSpec& spec, const BlockSearch& search, const float* x, const float* h,
      std::int64_t columns, SearchResult& found)
      : spec_(spec), search_(search), x_(x), h_(h), columns_(columns), found_(found) {
    for (std::int64_t j = 0; j < columns; ++j)
      for (int r = 0; r < kStripRows; ++r) {
        const double value = x[j * kStripRows + r];
        range_.h[r] += h[j], range_.x[r] += h[j] * value;
        range_.low[r] = std::min(range_.low[r], value);
        range_.high[r] = std::max(range_.high[r], value);
      }
  }

  void run() {
    for (int k = 0; k < kTries; ++k) {
      const double t = double(k) / (kTries - 1), more = (kReach + 0.8) * t * t - 0.8;
      const double steps = spec_.level_count - 1;
      if (spec_.zero_point) {
        for (int side = 0; side < 3; ++side) consider_zero(steps, more, 0.5 * side);
      } else {
        for (const bool up : {true, false}) consider_scale(steps / (steps + more), up);
      }
    }
    settle();
  }

 private:
  double low() const { return spec_.levels[spec_.first_code]; }
  double high() const { return spec_.levels[spec_.level_count - 1]; }

  /// Under the scales in found_.
  Sums measure() {
    Sums sums;
    BlockSums block;
    for (std::int64_t j = 0; j < columns_; j += spec_.block) {
      search_.measure(&spec_, x_ + j * kStripRows, h_ + j, &found_, &block);
      for (int r = 0; r < kStripRows; ++r) {
        sums.qq[r] += block.qq[r], sums.q[r] += block.q[r];
        sums.xq[r] += block.xq[r], sums.error[r] += block.error[r];
      }
    }
    return sums;
  }

  /// What the best scale is made of, for the codes summed up and the zero point z.
  double product(const Sums& s, int r, double z) const { return s.xq[r] - z * range_.x[r]; }
  double square(const Sums& s, int r, double z) const {
    return s.qq[r] - z * (2 * s.q[r] - z * range_.h[r]);
  }

  /// Keeps what the scales in found_ lead to, where it is better.
  void consider() {
    const Sums sums = measure();
    for (int r = 0; r < kStripRows; ++r) {
      const double z = found_.dmin[r], xq = product(sums, r, z), qq = square(sums, r, z);
      if (!(qq > 1e-30) || !(xq * xq / qq > gain_[r])) continue;
      gain_[r] = xq * xq / qq;
      d_[r] = xq / qq, zero_[r] = found_.dmin[r];
    }
  }

  /// The levels reach farther to one side, so the sign of the scale matters.
  void consider_scale(double part, bool up) {
    for (int r = 0; r < kStripRows; ++r) {
      const double a = range_.high[r] / (up ? high() : low());
      const double b = range_.low[r] / (up ? low() : high());
      found_.d[r] = float(part * (up ? std::max(a, b) : std::min(a, b)));
      found_.dmin[r] = 0;
    }
    consider();
  }

  /// `side`: how much of what is clipped is clipped at the bottom.
  void consider_zero(double steps, double more, double side) {
    for (int r = 0; r < kStripRows; ++r) {
      const double scale = (range_.high[r] - range_.low[r]) / (steps + more);
      const double offset = range_.low[r] + scale * (side * more - low());
      found_.d[r] = float(scale);
      found_.dmin[r] =
          scale > 0 ? float(std::clamp(std::nearbyint(-offset / scale), low(), high())) : 0;
    }
    consider();
  }

  /// Refits while the exact error of what is stored falls.
  void settle() {
    std::array<float, kStripRows> best{};
    Lanes least;
    least.fill(1e300);
    for (int r = 0; r < kStripRows; ++r) {
      found_.d[r] = stored_number(spec_, float(d_[r]));
      found_.dmin[r] = zero_[r];
    }
    for (int i = 0; i <= kSettle; ++i) {
      const Sums sums = measure();
      for (int r = 0; r < kStripRows; ++r) {
        if (sums.error[r] < least[r]) least[r] = sums.error[r], best[r] = found_.d[r];
        const double qq = square(sums, r, zero_[r]);
        found_.d[r] = stored_number(spec_, qq > 1e-30 ? float(product(sums, r, zero_[r]) / qq) : 0);
      }
    }
    std::copy(best.begin(), best.end(), found_.d);
  }

  const SearchSpec& spec_;
  const BlockSearch& search_;
  const float *x_, *h_;
  std::int64_t columns_;
  SearchResult& found_;
  Range range_;
  Lanes gain_{}, d_{};
  std::array<float, kStripRows> zero_{};
};

}  // namespace

void RowScale::fit(const float* x, const float* h, std::int64_t columns,
                   SearchResult& found) const {
  Fit(spec_, search_, x, h, columns, found).run();
}

void RowScale::emit(const float* x, const float* h, SearchResult& found) const {
  BlockSums unused;
  search_.measure(&spec_, x, h, &found, &unused);
}

}  // namespace nibble
