// The search for scales and codes of blocks whose columns are coded in groups. One vector lane is
// one row.
//
// In each sub-block several scales are tried as if the codebook had every point, and the best is
// refitted in closed form for the best points. The super-scale is chosen for them, the stored
// integers around each are tried with the exact cost, and in the end all scales are refitted for
// the codes found, in closed form. (Exact costs already for the first scales would lower the error
// of real weights by 1%, for half as much time again.)
//
// Books with two banks have so many points that they are gone through once, at the scale and in the
// bank that are best if every point is there; that is four times as fast, for 1 to 2%
// more error.
#include "round/points.h"

namespace nibble::NIBBLE_ISA {
namespace {

constexpr int kMaxSubs = 16, kMaxGroups = 32;
constexpr int kMostGroups = 4;  // of a sub-block
constexpr int kTries = 12;      // scales tried a sub-block
constexpr int kSuperTries = 8;  // super-scales tried a block
constexpr int kSteps = 3;       // stored integers tried a sub-block, around the nearest

/// Sums over a sub-block with the levels q found: what a closed-form refit needs.
struct Sums {
  Floats qq{}, xq{};
};

/// A block under construction.
struct Block {
  Floats d{};
  Floats factor[kMaxSubs]{};
  Sums sums[kMaxSubs];
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
    Block block;
    block.d = super(scales, weights);
    for (int s = 0; s < subs_; ++s) {
      block.factor[s] = stored(scales[s] * inverse(block.d * spec_.unit));
      if (quick())
        block.sums[s] = pick(s, inverse(block.d * block.factor[s] * (0.5f * spec_.unit)), bank_[s],
                             block.codes + s * groups_);
      else
        block.sums[s] = choose(s, block);
    }
    settle(block);
    store(out->d + lane, block.d);
    store(out->dmin + lane, Floats{});
    for (int s = 0; s < subs_; ++s) {
      store_narrow(out->sub_scale[s] + lane, __builtin_convertvector(block.factor[s], Ints));
      store_narrow(out->sub_min[s] + lane, Ints{});
    }
    for (int g = 0; g < spec_.block / kGroupColumns; ++g)
      points_.store(block.codes[g], out->groups[g] + lane);
  }

 private:
  Floats x(int j) const { return load(x_ + j * kStripRows); }
  bool quick() const { return spec_.book.banks > 1; }

  void target(int group) {
    Floats x[kGroupColumns];
    for (int j = 0; j < kGroupColumns; ++j)
      x[j] = load(x_ + (group * kGroupColumns + j) * kStripRows);
    points_.target(x, h_ + group * kGroupColumns);
  }

  /// The costs of a sub-block at several scales, over their squares, if every combination of digits
  /// were a point, and the bank that is best at each where the whole sub-block has one.
  void relaxed_costs(int s, const Floats* v, Floats* least, Ints* bank) {
    Floats sums[2][kTries]{};
    for (int g = s * groups_; g < (s + 1) * groups_; ++g) {
      target(g);
      Floats group[2][kTries]{};
      for (int b = 0; b < spec_.book.banks; ++b) points_.relaxed_costs<kTries>(b, v, group[b]);
      for (int k = 0; k < kTries; ++k) {
        if (spec_.book.banks > 1 && !points_.wide_banks())
          group[0][k] = min(group[0][k], group[1][k]);
        sums[0][k] += group[0][k], sums[1][k] += group[1][k];
      }
    }
    for (int k = 0; k < kTries; ++k) {
      bank[k] = points_.wide_banks() ? sums[1][k] < sums[0][k] : Ints{};
      least[k] = select(bank[k], sums[1][k], sums[0][k]);
    }
  }

  /// The best codes of a sub-block at several scales, [groups_][kSteps], and what they cost over
  /// the squares of the scales.
  void steps(int s, const Floats* v, Floats* least, GroupCode* codes) {
    for (int k = 0; k < kSteps; ++k) least[k] = Floats{};
    for (int g = 0; g < groups_; ++g) {
      target(s * groups_ + g);
      points_.nearest<kSteps>(Ints{}, v, least, codes + g * kSteps);
    }
  }

  /// The best codes of a sub-block at one scale, in its bank or the likely one of each group.
  Sums pick(int s, Floats v, Ints bank, GroupCode* codes) {
    for (int g = 0; g < groups_; ++g) {
      target(s * groups_ + g);
      const Ints second = group_bank(v, bank);
      codes[g] = points_.nearest(v, &second);
    }
    return sums(s, [&](int g, Floats* q) { points_.levels(codes[g], q); });
  }

  Ints group_bank(Floats v, Ints bank) const {
    return quick() && !points_.wide_banks() ? points_.likely_bank(v) : bank;
  }

  /// levels(group, levels of its columns)
  template <class Levels>
  Sums sums(int s, const Levels& levels) {
    Sums sum;
    for (int g = 0; g < groups_; ++g) {
      Floats q[kGroupColumns];
      levels(g, q);
      for (int i = 0; i < kGroupColumns; ++i) {
        const int j = s * spec_.sub + g * kGroupColumns + i;
        const Floats hq = h_[j] * q[i];
        sum.qq += hq * q[i], sum.xq += hq * x(j);
      }
    }
    return sum;
  }

  /// At one scale, if every combination of digits were a point.
  Sums relaxed_sums(int s, Floats v, Ints bank) {
    return sums(s, [&](int g, Floats* q) {
      target(s * groups_ + g);
      points_.relaxed_levels(group_bank(v, bank), v, q);
    });
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
    relaxed_costs(s, v, least, bank);
    Floats best{}, best_v{};
    for (int k = 0; k < kTries; ++k) {
      const Floats cost = size[k] * size[k] * least[k];
      const Ints better = cost < best;
      best = select(better, cost, best), best_v = select(better, v[k], best_v);
      bank_[s] = better ? bank[k] : bank_[s];
    }
    GroupCode codes[kMostGroups];
    const Sums sum = quick() ? relaxed_sums(s, best_v, bank_[s]) : pick(s, best_v, Ints{}, codes);
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
    Floats factor[kSteps], v[kSteps], least[kSteps];
    GroupCode codes[kMostGroups * kSteps];
    for (int k = 0; k < kSteps; ++k) {
      factor[k] = stored(block.factor[s] + spec_.scale_step * float(k - 1));
      v[k] = inverse(block.d * factor[k] * (0.5f * spec_.unit));
    }
    steps(s, v, least, codes);
    Floats best{};
    GroupCode* const found = block.codes + s * groups_;
    for (int k = 0; k < kSteps; ++k) {
      const Floats cost = factor[k] * factor[k] * least[k];
      const Ints better = k == 0 ? Ints{} == Ints{} : Ints(cost < best);
      best = select(better, cost, best);
      block.factor[s] = select(better, factor[k], block.factor[s]);
      for (int g = 0; g < groups_; ++g) found[g] = select(better, codes[g * kSteps + k], found[g]);
    }
    return sums(s, [&](int g, Floats* q) { points_.levels(found[g], q); });
  }

  /// The best scales for the codes found, as far as they can be stored.
  void settle(Block& block) const {
    const auto cost = [](const Sums& sum, Floats scale) {
      return scale * (scale * sum.qq - 2 * sum.xq);
    };
    Sums all;
    for (int s = 0; s < subs_; ++s) {
      const Floats n = block.factor[s] * spec_.unit;
      all.qq += n * n * block.sums[s].qq, all.xq += n * block.sums[s].xq;
    }
    const Floats d = round_fp16(ratio(all.xq, all.qq));
    block.d = select(cost(all, d) < cost(all, block.d), d, block.d);
    const Floats unit = block.d * spec_.unit, inv = inverse(unit);
    for (int s = 0; s < subs_; ++s) {
      const Sums& sum = block.sums[s];
      const Floats n = stored(ratio(sum.xq, sum.qq) * inv);
      block.factor[s] =
          select(cost(sum, unit * n) < cost(sum, unit * block.factor[s]), n, block.factor[s]);
    }
  }

  const SearchSpec& spec_;
  Points points_;
  const float *x_, *h_;
  int subs_, groups_;      // sub-blocks; groups in one
  Ints bank_[kMaxSubs]{};  // of sub-blocks that have one
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
