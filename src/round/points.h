// The nearest code of a group of columns that are coded together, for a whole vector of rows.
// Included by per-ISA files only.
//
// All rows of a strip weigh a column alike. What point e costs at scale s is, but for a constant
// and up to the factor s^2, sum_j h_j e_j^2 - (2 / s) h_j x_j e_j: a sum over columns. So the costs
// of all halves of points are made first; what is left is one sum of two numbers a point, and one
// minimum, for points that are sorted by their first half.
#pragma once

#include "round/search.h"
#include "round/vec.h"

namespace nibble::NIBBLE_ISA {

constexpr int kGroupColumns = 8;

/// Codes of one group, a lane a row: the number of each point, and the signs.
struct GroupCode {
  Ints number[2]{};
  Ints negative[kGroupColumns]{};
};

class Points {
 public:
  explicit Points(const SearchSpec& spec)
      : book_(spec.book), units_(kGroupColumns / spec.book.width), half_(spec.book.width / 2) {
    sort();
  }

  /// The group to be coded: 8 columns with importance h.
  void target(const Floats* x, const float* h) {
    h_ = h;
    for (int j = 0; j < kGroupColumns; ++j) x_[j] = x[j], negative_[j] = Ints{};
    if (book_.signs != PointSpec::kNone) take_signs();
  }

  /// Adds the least cost of a point of the bank at each of kScales v = 2 / s to least[k].
  template <int kScales>
  void costs(int bank, const Floats* v, Floats* least) {
    for (int unit = 0; unit < units_; ++unit) {
      for (int part = 0; part < 2; ++part)
        for (int k = 0; k < kScales; ++k)
          halves<kScales>(bank, 2 * unit + part, v[k], costs_[part] + k);
      Floats best[kScales];
      for (int k = 0; k < kScales; ++k) best[k] = splat(1e38f);
      for (int run = 0; run < run_count_; ++run) {
        Floats rest[kScales];
        best_of_run<kScales>(run, rest);
        for (int k = 0; k < kScales; ++k)
          best[k] = min(best[k], rest[k] + costs_[0][first_[run] * kScales + k]);
      }
      for (int k = 0; k < kScales; ++k) least[k] += best[k];
    }
  }

  /// The same if every combination of digits were a point.
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
    Floats least, other_least;
    GroupCode code = pick(0, v, least);
    if (book_.banks == 1) return code;
    const GroupCode other = pick(1, v, other_least);
    const Ints take = second ? *second : Ints(other_least < least);
    for (int unit = 0; unit < units_; ++unit)
      code.number[unit] = take ? other.number[unit] : code.number[unit];
    return code;
  }

  bool wide_banks() const { return book_.banks > 1 && book_.bank_columns > kGroupColumns; }
  Ints in_second_bank(const GroupCode& code) const { return code.number[0] >= book_.count; }

  /// The levels of a group's columns.
  void levels(const GroupCode& code, Floats* out) const {
    const int mask = (1 << book_.digit_bits) - 1;
    for (int unit = 0; unit < units_; ++unit) {
      const Ints in_bank = in_second_bank(code);
      Ints point{};
      for (int l = 0; l < kLanes; ++l)
        point[l] = book_.points[code.number[unit][l] - (in_bank[l] ? book_.count : 0)];
      for (int i = 0; i < book_.width; ++i) {
        const Ints digit = point >> (book_.digit_bits * i) & mask;
        Floats level = splat(book_.values[0]);
        for (int d = 1; d < book_.digits; ++d)
          level = select(digit == d, splat(book_.values[d]), level);
        for (int d = 0; d < (book_.banks - 1) * book_.digits; ++d)
          level = select((digit == d) & in_bank, splat(book_.values[book_.digits + d]), level);
        const int j = unit * book_.width + i;
        out[j] = select(code.negative[j], -level, level);
      }
    }
  }

  static void store(const GroupCode& code, uint32_t* out) {
    Ints all = code.number[0] | code.number[1] << 12;
    for (int j = 0; j < kGroupColumns; ++j) all |= code.negative[j] & int32_t(1u << (24 + j));
    __builtin_memcpy(out, &all, sizeof all);
  }

  static GroupCode load(const uint32_t* in) {
    Ints all;
    __builtin_memcpy(&all, in, sizeof all);
    GroupCode code;
    code.number[0] = all & 0xfff, code.number[1] = all >> 12 & 0xfff;
    for (int j = 0; j < kGroupColumns; ++j) code.negative[j] = (all & int32_t(1u << (24 + j))) != 0;
    return code;
  }

 private:
  /// Sorts the points by their first half, in runs of whole fours: the last of a run is repeated.
  void sort() {
    int of_first[kMostHalves][2]{}, next = 0;  // points, place of the next
    int halves = 1;
    for (int k = 0; k < half_; ++k) halves *= book_.digits;
    for (int e = 0; e < book_.count; ++e) ++of_first[half_number(book_.points[e])][0];
    for (int i = 0; i < halves; ++i) {
      if (of_first[i][0] == 0) continue;
      of_first[i][1] = next;
      first_[run_count_] = uint8_t(i), runs_[run_count_++] = int16_t(next);
      next += (of_first[i][0] + 3) / 4 * 4;
    }
    runs_[run_count_] = int16_t(next);
    for (int e = 0; e < book_.count; ++e) {
      int* run = of_first[half_number(book_.points[e])];
      const int second = half_number(book_.points[e] >> (book_.digit_bits * half_));
      for (int i = run[1]; i == run[1] || (run[0] == 1 && i % 4 != 0); ++i)
        second_[i] = uint8_t(second), number_[i] = int16_t(e);
      ++run[1], --run[0];
    }
  }

  /// The number that the digits of half a point make, the first column lowest.
  int half_number(int digits) const {
    int number = 0;
    for (int k = half_ - 1; k >= 0; --k)
      number = number * book_.digits +
               (digits >> (book_.digit_bits * k) & ((1 << book_.digit_bits) - 1));
    return number;
  }

  /// The costs of all halves of a point at v = 2 / s, kStep apart. part: which half of the group's
  /// points.
  template <int kStep>
  void halves(int bank, int part, Floats v, Floats* out) const {
    const int8_t* values = book_.values + bank * book_.digits;
    out[0] = Floats{};
    for (int k = 0, count = 1; k < half_; ++k, count *= book_.digits) {
      const int j = part * half_ + k;
      const Floats vx = v * x_[j];
      for (int d = book_.digits - 1; d >= 0; --d) {
        const Floats more = h_[j] * ((float(values[d]) - vx) * float(values[d]));
        for (int i = 0; i < count; ++i) out[(count * d + i) * kStep] = out[i * kStep] + more;
      }
    }
  }

  /// The least cost of the second halves in a run.
  template <int kScales>
  void best_of_run(int run, Floats* rest) const {
    for (int k = 0; k < kScales; ++k) rest[k] = splat(1e38f);
    for (int e = runs_[run]; e < runs_[run + 1]; e += 4)
#pragma GCC unroll 16
      for (int k = 0; k < kScales; ++k) {
        const auto cost = [&](int i) { return costs_[1][second_[e + i] * kScales + k]; };
        rest[k] = min(rest[k], min(min(cost(0), cost(1)), min(cost(2), cost(3))));
      }
  }

  /// The best points of the bank at v = 2 / s, and their cost; ties go to the first half with the
  /// lowest number, then to the lowest point.
  GroupCode pick(int bank, Floats v, Floats& least) {
    GroupCode code;
    least = Floats{};
    for (int unit = 0; unit < units_; ++unit) {
      for (int part = 0; part < 2; ++part) halves<1>(bank, 2 * unit + part, v, costs_[part]);
      Floats best = splat(1e38f), best_rest{};
      Ints best_run{};
      for (int run = 0; run < run_count_; ++run) {
        Floats rest;
        best_of_run<1>(run, &rest);
        const Floats cost = rest + costs_[0][first_[run]];
        const Ints better = cost < best;
        best_run = better ? Ints{} + run : best_run;
        best_rest = select(better, rest, best_rest), best = select(better, cost, best);
      }
      for (int l = 0; l < kLanes; ++l) {
        int e = runs_[best_run[l]];
        for (const int end = runs_[best_run[l] + 1] - 1;
             e < end && costs_[1][second_[e]][l] != best_rest[l];)
          ++e;
        code.number[unit][l] = number_[e] + bank * book_.count;
      }
      least += best;
    }
    for (int j = 0; j < kGroupColumns; ++j) code.negative[j] = negative_[j];
    return code;
  }

  /// Points hold sizes: each column is made positive. Where the number of negative ones must be
  /// even and is not, the column that loses least by it takes the wrong sign.
  void take_signs() {
    Ints odd{};
    for (int j = 0; j < kGroupColumns; ++j) {
      negative_[j] = x_[j] < 0;
      odd ^= negative_[j];
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
      negative_[j] ^= flip;
      x_[j] = select(flip, -x_[j], x_[j]);
    }
  }

  static constexpr int kMostScales = 3, kMostHalves = 81, kMostPoints = 2048;

  const PointSpec& book_;
  int units_, half_;  // points a group; columns of half a point
  int run_count_ = 0;
  uint8_t first_[kMostHalves];                     // the first half of each run
  int16_t runs_[kMostHalves + 1];                  // where it begins
  uint8_t second_[kMostPoints + 3 * kMostHalves];  // sorted points: their second half
  int16_t number_[kMostPoints + 3 * kMostHalves];
  const float* h_ = nullptr;
  Floats x_[kGroupColumns];
  Ints negative_[kGroupColumns];
  Floats costs_[2][kMostHalves * kMostScales];  // of first and second halves
};

}  // namespace nibble::NIBBLE_ISA
