// The search for scales and codes of blocks whose columns are coded in groups. One vector lane is
// one row.
//
// In each sub-block several scales are tried as if the codebook had every point, and the best is
// refitted in closed form for the best points. The super-scale is chosen for them; then the stored
// integers around each are tried with the exact cost, and the super-scale is refitted for the codes
// found. (More rounds of that lower the error of real weights by 0.5%, exact costs already for the
// first scales by another 1%; each takes half as much time again.)
#include "round/points.h"

namespace nibble::NIBBLE_ISA {
namespace {

constexpr int kMaxSubs = 16, kMaxGroups = 32;
constexpr int kTries = 12;      // scales tried a sub-block
constexpr int kSuperTries = 8;  // super-scales tried a block

/// Sums over a sub-block with the levels q found: what a closed-form refit needs.
struct Sums {
  Floats qq{}, xq{};
};

/// A block under construction.
struct Block {
  Floats d{}, total = splat(1e38f);
  Floats factor[kMaxSubs]{};
  GroupCode codes[kMaxGroups];
};

class Search {
 public:
  Search(const SearchSpec& spec, const float* x, const float* h)
      : spec_(spec),
        points_(spec),
        x_(x),
        h_(h),
        subs_(spec.block / spec.sub),
        groups_(spec.sub / kGroupColumns) {}

  void run(SearchResult* out, int lane) {
    Floats scales[kMaxSubs], weights[kMaxSubs];
    for (int s = 0; s < subs_; ++s) fit(s, scales[s], weights[s]);
    Block best, next;
    next.d = super(scales, weights);
    for (int s = 0; s < subs_; ++s)
      next.factor[s] = stored(scales[s] * inverse(next.d * spec_.unit));
    for (int round = 0; round < 2; ++round) {
      Floats qq{}, xq{};
      next.total = Floats{};
      for (int s = 0; s < subs_; ++s) {
        const Sums sum = round == 0 ? choose(s, next) : repeat(s, next);
        const Floats n = next.factor[s], scale = next.d * n * spec_.unit;
        next.total += scale * (scale * sum.qq - 2 * sum.xq);
        qq += n * n * sum.qq, xq += n * sum.xq;
      }
      keep(next.total < best.total, next, best);
      next.d = round_fp16(ratio(xq, qq * spec_.unit));
    }
    store(out->d + lane, best.d);
    store(out->dmin + lane, Floats{});
    for (int s = 0; s < subs_; ++s) {
      store_narrow(out->sub_scale[s] + lane, __builtin_convertvector(best.factor[s], Ints));
      store_narrow(out->sub_min[s] + lane, Ints{});
    }
    for (int g = 0; g < spec_.block / kGroupColumns; ++g)
      Points::store(best.codes[g], out->groups[g] + lane);
  }

 private:
  Floats x(int j) const { return load(x_ + j * kStripRows); }

  void target(int group) {
    Floats x[kGroupColumns];
    for (int j = 0; j < kGroupColumns; ++j)
      x[j] = load(x_ + (group * kGroupColumns + j) * kStripRows);
    points_.target(x, h_ + group * kGroupColumns);
  }

  /// The costs of a sub-block at several scales, over their squares, and the bank that is best at
  /// each where the whole sub-block has one. cost(bank, sums) adds those of a group.
  template <int kScales, class Cost>
  void costs(int s, const Cost& cost, Floats* least, Ints* bank) {
    Floats sums[2][kScales]{};
    for (int g = s * groups_; g < (s + 1) * groups_; ++g) {
      target(g);
      Floats group[2][kScales]{};
      for (int b = 0; b < spec_.book.banks; ++b) cost(b, group[b]);
      for (int k = 0; k < kScales; ++k) {
        if (spec_.book.banks > 1 && !points_.wide_banks())
          group[0][k] = min(group[0][k], group[1][k]);
        sums[0][k] += group[0][k], sums[1][k] += group[1][k];
      }
    }
    for (int k = 0; k < kScales; ++k) {
      bank[k] = points_.wide_banks() ? sums[1][k] < sums[0][k] : Ints{};
      least[k] = select(bank[k], sums[1][k], sums[0][k]);
    }
  }

  /// The best codes of a sub-block at one scale.
  Sums pick(int s, Floats v, Ints bank, GroupCode* codes) {
    Sums sum;
    for (int g = s * groups_; g < (s + 1) * groups_; ++g) {
      target(g);
      codes[g] = points_.nearest(v, points_.wide_banks() ? &bank : nullptr);
      Floats q[kGroupColumns];
      points_.levels(codes[g], q);
      for (int i = 0; i < kGroupColumns; ++i) {
        const int j = g * kGroupColumns + i;
        const Floats hq = h_[j] * q[i];
        sum.qq += hq * q[i], sum.xq += hq * x(j);
      }
    }
    return sum;
  }

  /// The best scale of a sub-block, not yet stored in anything, and how fast its error grows with
  /// the distance from it.
  void fit(int s, Floats& scale, Floats& weight) {
    Floats most{}, little = splat(1e38f);
    for (int j = s * spec_.sub; j < (s + 1) * spec_.sub; ++j)
      most = max(most, abs(x(j))), little = min(little, abs(x(j)));
    const float highest = spec_.levels[spec_.level_count - 1];
    const float lowest = spec_.levels[spec_.level_count / 2];
    Floats size[kTries], v[kTries], least[kTries];
    Ints bank[kTries];
    for (int k = 0; k < kTries; ++k) size[k] = most * (part(k) / highest);
    // Weights of one size may need the least level: the largest are not in every combination.
    size[kTries - 1] = select(little > 0.8f * most, most * (1 / lowest), size[kTries - 1]);
    for (int k = 0; k < kTries; ++k) v[k] = inverse(0.5f * size[k]);
    costs<kTries>(
        s, [&](int b, Floats* sum) { points_.relaxed_costs<kTries>(b, v, sum); }, least, bank);
    Floats best{}, best_v{};
    Ints best_bank{};
    for (int k = 0; k < kTries; ++k) {
      const Floats cost = size[k] * size[k] * least[k];
      const Ints better = cost < best;
      best = select(better, cost, best), best_v = select(better, v[k], best_v);
      best_bank = better ? bank[k] : best_bank;
    }
    GroupCode codes[kMaxGroups];
    const Sums sum = pick(s, best_v, best_bank, codes);
    scale = ratio(sum.xq, sum.qq), weight = sum.qq;
  }

  /// Scales tried, relative to the one whose largest level is the largest weight.
  static float part(int k) { return 0.45f + 0.07f * float(k); }

  /// The nearest factor that can be stored.
  Floats stored(Floats q) const {
    const float step = spec_.scale_step;
    return nearest_integer(
               (min(max(q, splat(spec_.scale_min)), splat(spec_.scale_max)) - spec_.scale_min) *
               (1 / step)) *
               step +
           spec_.scale_min;
  }

  /// The fp16 value d for which stored factors times d come nearest to the scales.
  Floats super(const Floats* scales, const Floats* weights) const {
    Floats extreme{}, best{}, least = splat(1e38f);
    for (int s = 0; s < subs_; ++s) extreme = max(extreme, scales[s]);
    for (int k = 0; k < kSuperTries; ++k) {
      const float reach = spec_.scale_max - spec_.scale_step * float(k);
      Floats inv = inverse(extreme * (1 / reach)), qx{}, qq{}, sum{};
      for (int s = 0; s < subs_; ++s) {
        const Floats q = stored(scales[s] * inv), wq = weights[s] * q;
        qx += wq * scales[s], qq += wq * q;
      }
      const Floats d = round_fp16(ratio(qx, qq * spec_.unit));
      inv = inverse(d * spec_.unit);
      for (int s = 0; s < subs_; ++s) {
        const Floats r = scales[s] - d * spec_.unit * stored(scales[s] * inv);
        sum += weights[s] * r * r;
      }
      best = select(sum < least, d, best);
      least = min(sum, least);
    }
    return best;
  }

  /// The best factor around the one that the block has, and the codes at it.
  Sums choose(int s, Block& block) {
    constexpr int kSteps = 3;
    Floats factor[kSteps], v[kSteps], least[kSteps];
    Ints bank[kSteps];
    for (int k = 0; k < kSteps; ++k) {
      factor[k] = stored(block.factor[s] + spec_.scale_step * float(k - 1));
      v[k] = inverse(block.d * factor[k] * (0.5f * spec_.unit));
    }
    costs<kSteps>(
        s, [&](int b, Floats* sum) { points_.costs<kSteps>(b, v, sum); }, least, bank);
    Floats best{}, best_v{};
    Ints best_bank{};
    for (int k = 0; k < kSteps; ++k) {
      const Floats cost = factor[k] * factor[k] * least[k];
      const Ints better = k == 0 ? Ints{} == Ints{} : Ints(cost < best);
      best = select(better, cost, best), best_v = select(better, v[k], best_v);
      block.factor[s] = select(better, factor[k], block.factor[s]);
      best_bank = better ? bank[k] : best_bank;
    }
    return pick(s, best_v, best_bank, block.codes);
  }

  /// The best codes at the factor and in the bank that the block has.
  Sums repeat(int s, Block& block) {
    const Floats v = inverse(block.d * block.factor[s] * (0.5f * spec_.unit));
    return pick(s, v, points_.in_second_bank(block.codes[s * groups_]), block.codes);
  }

  void keep(Ints better, const Block& from, Block& to) const {
    to.d = select(better, from.d, to.d), to.total = select(better, from.total, to.total);
    for (int s = 0; s < subs_; ++s) to.factor[s] = select(better, from.factor[s], to.factor[s]);
    for (int g = 0; g < spec_.block / kGroupColumns; ++g) {
      for (int unit = 0; unit < 2; ++unit)
        to.codes[g].number[unit] = better ? from.codes[g].number[unit] : to.codes[g].number[unit];
      for (int j = 0; j < kGroupColumns; ++j)
        to.codes[g].negative[j] = better ? from.codes[g].negative[j] : to.codes[g].negative[j];
    }
  }

  const SearchSpec& spec_;
  Points points_;
  const float *x_, *h_;
  int subs_, groups_;  // sub-blocks; groups in one
};

void search_block(const SearchSpec* spec, const float* x, const float* h, SearchResult* out) {
  for (int lane = 0; lane < kStripRows; lane += kLanes) Search(*spec, x + lane, h).run(out, lane);
}

}  // namespace

const BlockSearch& search_joint() {
  static constexpr BlockSearch all = {kIsa, true, search_block, nullptr};
  return all;
}

}  // namespace nibble::NIBBLE_ISA
