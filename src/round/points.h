// The nearest code of a group of columns that are coded together, for a whole vector of rows.
// Included by per-ISA files only.
//
// All rows of a strip weigh a column alike. What point e costs at scale s is, but for a constant
// and up to the factor s^2, sum_j h_j e_j^2 - (2 / s) h_j x_j e_j: a sum over columns. So the costs
// of all halves of points are made first; what is left is one sum of two numbers a point, and one
// minimum, for points that are sorted by their first half. The lowest bits of the cost of a second
// half are its digits, so that the minimum says which it is (it is off by 2^-15 of itself at most,
// and no two are equal).
#pragma once

#include "round/search.h"
#include "round/vec.h"

namespace nibble::NIBBLE_ISA {

constexpr int kGroupColumns = 8;

/// Codes of one group, a lane a row.
struct GroupCode {
  Ints point[2]{};  // its digits as in the book; kSecondBank is added in that bank
  Ints signs{};     // bit 24 + j: column j is negative
};

constexpr int kSecondBank = 1 << 16;

static inline GroupCode select(Ints mask, const GroupCode& a, const GroupCode& b) {
  return {{mask ? a.point[0] : b.point[0], mask ? a.point[1] : b.point[1]},
          mask ? a.signs : b.signs};
}

class Points {
 public:
  explicit Points(const SearchSpec& spec)
      : book_(spec.book),
        runs_(*spec.book.runs),
        units_(kGroupColumns / spec.book.width),
        half_(spec.book.width / 2),
        half_bits_(half_ * spec.book.digit_bits) {
    for (int d = 0; d < book_.digits; ++d) {
      levels_[d] = book_.values[d];
      if (book_.banks > 1) levels_[kBankLevels + d] = book_.values[book_.digits + d];
    }
  }

  /// The group to be coded: 8 columns with importance h.
  void target(const Floats* x, const float* h) {
    h_ = h, signs_ = Ints{};
    for (int j = 0; j < kGroupColumns; ++j) x_[j] = x[j];
    if (book_.signs != PointSpec::kNone) take_signs();
  }

  /// The best points at each of kScales v = 2 / s (of the second bank where `second` is set), whose
  /// costs are added to `least`.
  template <int kScales>
  void nearest(Ints second, const Floats* v, Floats* least, GroupCode* code) {
    for (int unit = 0; unit < units_; ++unit) {
      for (int part = 0; part < 2; ++part)
        for (int k = 0; k < kScales; ++k) halves(second, 2 * unit + part, v[k], costs_[part][k]);
      name_second_halves<kScales>();
      Floats best[kScales], best_rest[kScales]{};
      Ints best_first[kScales]{};
      for (int k = 0; k < kScales; ++k) best[k] = splat(1e38f);
      for (int run = 0; run < runs_.count; ++run) {
        Floats rest[kScales];
        best_of_run<kScales>(run, rest);
        for (int k = 0; k < kScales; ++k) {
          const Floats cost = rest[k] + costs_[0][k][runs_.first[run]];
          const Ints better = cost < best[k];
          best_first[k] = better ? Ints{} + runs_.digits[runs_.first[run]] : best_first[k];
          best_rest[k] = NIBBLE_ISA::select(better, rest[k], best_rest[k]);
          best[k] = min(cost, best[k]);
        }
      }
      for (int k = 0; k < kScales; ++k) {
        least[k] += best[k];
        code[k].point[unit] =
            best_first[k] | ((Ints)best_rest[k] & kDigits) << half_bits_ | (second & kSecondBank);
        code[k].signs = signs_;
      }
    }
  }

  /// The cost if every combination of digits were a point, added to `least`.
  template <int kScales>
  void relaxed_costs(int bank, const Floats* v, Floats* least) const {
    const int8_t* values = book_.values + bank * book_.digits;
    for (int j = 0; j < kGroupColumns; ++j)
      for (int k = 0; k < kScales; ++k) {
        const Floats vx = v[k] * x_[j];
        Floats best = splat(1e38f);
        for (int d = 0; d < book_.digits; ++d)
          best = min(best, (float(values[d]) - vx) * float(values[d]));
        least[k] += h_[j] * best;
      }
  }

  /// The best points at v = 2 / s, of the second bank where *second is set, or of either bank if
  /// `second` is null.
  GroupCode nearest(Floats v, const Ints* second) {
    Floats least{}, other_least{};
    GroupCode code, other;
    nearest<1>(second ? *second : Ints{}, &v, &least, &code);
    if (second || book_.banks == 1) return code;
    nearest<1>(Ints{} - 1, &v, &other_least, &other);
    return NIBBLE_ISA::select(other_least < least, other, code);
  }

  /// Where the second bank would be better if every combination of digits were a point.
  Ints likely_bank(Floats v) const {
    Floats first{}, second{};
    relaxed_costs<1>(0, &v, &first), relaxed_costs<1>(1, &v, &second);
    return second < first;
  }

  /// The best levels at v = 2 / s if every combination of digits were a point.
  void relaxed_levels(Ints second, Floats v, Floats* out) const {
    for (int j = 0; j < kGroupColumns; ++j) {
      const Floats vx = v * x_[j];
      Floats best = splat(1e38f), found{};
      for (int d = 0; d < book_.digits; ++d) {
        const Floats level = bank_level(second, d), cost = (level - vx) * level;
        found = NIBBLE_ISA::select(cost < best, level, found), best = min(cost, best);
      }
      out[j] = with_sign(found, signs_, j);
    }
  }

  bool wide_banks() const { return book_.banks > 1 && book_.bank_columns > kGroupColumns; }
  static Ints in_second_bank(const GroupCode& code) { return (code.point[0] & kSecondBank) != 0; }

  /// The levels of a group's columns.
  void levels(const GroupCode& code, Floats* out) const {
    const int mask = (1 << book_.digit_bits) - 1;
    for (int j = 0; j < kGroupColumns; ++j) {
      const Ints point = code.point[j / book_.width];
      const Ints digit = point >> (book_.digit_bits * (j % book_.width)) & mask;
      Floats level = pick_of_8(levels_, digit);
      if (book_.banks > 1)
        level = NIBBLE_ISA::select(in_second_bank(code), pick_of_8(levels_ + kBankLevels, digit),
                                   level);
      out[j] = with_sign(level, code.signs, j);
    }
  }

  /// As SearchResult has it.
  void store(const GroupCode& code, uint32_t* out) const {
    for (int l = 0; l < kLanes; ++l) {
      uint32_t all = uint32_t(code.signs[l]);
      for (int unit = 0; unit < units_; ++unit) all |= number(code.point[unit][l]) << (12 * unit);
      out[l] = all;
    }
  }

  GroupCode load(const uint32_t* in) const {
    GroupCode code;
    for (int l = 0; l < kLanes; ++l)
      for (int unit = 0; unit < units_; ++unit) {
        const int number = int(in[l] >> (12 * unit) & 0xfff), bank = number >= book_.count;
        code.point[unit][l] = book_.points[number - bank * book_.count] | bank * kSecondBank;
        code.signs[l] = int32_t(in[l] & 0xff000000);
      }
    return code;
  }

 private:
  /// The level of a digit, in the second bank where `second` is set.
  Floats bank_level(Ints second, int digit) const {
    return NIBBLE_ISA::select(second, splat(levels_[kBankLevels + digit]), splat(levels_[digit]));
  }

  static Floats with_sign(Floats level, Ints signs, int column) {
    return (Floats)((Ints)level ^ (signs << (7 - column) & INT32_MIN));
  }

  /// The number that the digits of half a point make, the first column lowest.
  int half_number(int digits) const {
    int number = 0;
    for (int k = half_ - 1; k >= 0; --k)
      number = number * book_.digits +
               (digits >> (book_.digit_bits * k) & ((1 << book_.digit_bits) - 1));
    return number;
  }

  /// The number of a point among all banks.
  uint32_t number(int point) const {
    const int second = half_number(point >> half_bits_);
    const int run = runs_.run_of[half_number(point)], last = runs_.begin[run + 1] - 1;
    int e = runs_.begin[run];
    while (e < last && runs_.second[e] != second) ++e;
    return uint32_t(runs_.number[e] + (point & kSecondBank ? book_.count : 0));
  }

  /// The costs of all halves of a point at v = 2 / s. part: which half of the group's points.
  void halves(Ints second, int part, Floats v, Floats* out) const {
    out[0] = Floats{};
    for (int k = 0, count = 1; k < half_; ++k, count *= book_.digits) {
      const int j = part * half_ + k;
      const Floats vx = v * x_[j];
      for (int d = book_.digits - 1; d >= 0; --d) {
        const Floats level = bank_level(second, d);
        const Floats more = h_[j] * ((level - vx) * level);
        for (int i = 0; i < count; ++i) out[count * d + i] = out[i] + more;
      }
    }
  }

  /// Puts the digits of the second halves into their costs.
  template <int kScales>
  void name_second_halves() {
    for (int k = 0; k < kScales; ++k)
      for (int i = 0; i < runs_.halves; ++i) {
        Floats& cost = costs_[1][k][i];
        cost = (Floats)(((Ints)cost & ~kDigits) | int(runs_.digits[i]));
      }
  }

  /// The least cost of the second halves in a run.
  template <int kScales>
  void best_of_run(int run, Floats* rest) const {
    for (int k = 0; k < kScales; ++k) rest[k] = splat(1e38f);
    for (int e = runs_.begin[run]; e < runs_.begin[run + 1]; e += 4)
#pragma GCC unroll 16
      for (int k = 0; k < kScales; ++k) {
        const auto cost = [&](int i) { return costs_[1][k][runs_.second[e + i]]; };
        rest[k] = min(rest[k], min(min(cost(0), cost(1)), min(cost(2), cost(3))));
      }
  }

  /// Points hold sizes: each column is made positive. Where the number of negative ones must be
  /// even and is not, the column that loses least by it takes the wrong sign.
  void take_signs() {
    Ints odd{};
    for (int j = 0; j < kGroupColumns; ++j) {
      const Ints negative = x_[j] < 0;
      signs_ |= negative & int32_t(1u << (24 + j));
      odd ^= negative;
      x_[j] = abs(x_[j]);
    }
    if (book_.signs != PointSpec::kEven || !any(odd)) return;
    Floats least = h_[0] * x_[0];
    Ints column{};
    for (int j = 1; j < kGroupColumns; ++j) {
      const Floats loss = h_[j] * x_[j];
      column = loss < least ? Ints{} + j : column;
      least = min(loss, least);
    }
    for (int j = 0; j < kGroupColumns; ++j) {
      const Ints flip = (column == j) & odd;
      signs_ ^= flip & int32_t(1u << (24 + j));
      x_[j] = NIBBLE_ISA::select(flip, -x_[j], x_[j]);
    }
  }

  static constexpr int kMostScales = 3;
  static constexpr int kBankLevels = 16;  // where those of the second bank begin
  static constexpr int kDigits = 0xff;    // bits that the digits of half a point take at most

  const PointSpec& book_;
  const PointRuns& runs_;
  int units_, half_, half_bits_;  // points a group; columns of half a point, bits of their digits
  alignas(64) float levels_[2 * kBankLevels]{};
  const float* h_ = nullptr;
  Floats x_[kGroupColumns];
  Ints signs_;
  Floats costs_[2][kMostScales][PointRuns::kMostHalves];  // of first and second halves
};

}  // namespace nibble::NIBBLE_ISA
