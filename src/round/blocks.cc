// The search for scales and codes of blocks. One vector lane is one row.
//
// In each sub-block, several scales around its range are tried; each is refitted in closed form for
// the codes that it gives, and the best is refined until nearly still. Nested formats then choose
// the super-scales, and walk on the grid of stored integers by the exact error of what will be read
// back.
//
// An error counts by its column's importance h. Where that is unknown (favour_large), it counts
// more on larger weights: times 1 + s, where s is |x| / mean |x| of the block, or s^1.5 where the
// levels are many or lie farther apart the larger they are. Few weights make the largest
// activations, and their errors add up instead of cancelling. On SmolLM2-135M this lowers the KL
// divergence of Q8_0 and Q6_K by 10%, of Q4_K_S by 5%, for 1 to 4% more squared error; with a known
// importance it raises it by as much. (The power is a compromise: where that model's rows are 576
// wide IQ4_NL does best with 1, where they are 768 wide with 2; Q8_0 the other way round.)
#include "round/levels.h"
#include "round/search.h"
#include "round/vec.h"

namespace nibble::NIBBLE_ISA {
namespace {

constexpr int kMaxSubs = 16;
constexpr int kSuperTries = 8;  // super-scales tried a block

/// Weighted sums over a sub-block that do not depend on its codes, and its range.
struct Moments {
  Floats h{}, x{}, low, high;
};

/// Weighted sums over a sub-block with the levels q that some scale gives: what a closed-form refit
/// needs.
struct Sums {
  Floats qq{}, q{}, xq{};
};

struct Fit {
  Floats scale{}, offset{};
};

Fit select(Ints mask, const Fit& a, const Fit& b) {
  return {NIBBLE_ISA::select(mask, a.scale, b.scale), NIBBLE_ISA::select(mask, a.offset, b.offset)};
}

/// A fit under construction: `gain` is how far it lowers the error below sum h x^2.
struct Best {
  Fit fit;
  Floats gain{};
};

/// A nested block under construction: integers of its sub-blocks, and the exact error of each.
struct Nested {
  Floats d{}, dmin{};
  Floats scale[kMaxSubs]{}, min[kMaxSubs]{}, error[kMaxSubs]{};

  Fit fit(int s) const { return {d * scale[s], -(dmin * min[s])}; }
};

template <class Levels, bool kOffset, int kSub>
class Search {
 public:
  Search(const SearchSpec& spec, const float* x, const float* h)
      : spec_(spec), levels_(spec), x_(x), subs_(spec.block / kSub) {
    for (int j = 0; j < spec.block; ++j) h_[j] = splat(h[j]);
    if (spec.favour_large) favour_large();
  }

  /// Fills the lanes from `lane` on.
  void run(SearchResult* out, int lane) const {
    Nested block;
    if (spec_.nested)
      nested(block);
    else if (spec_.number == SearchSpec::kPower)
      power(block);
    else if (spec_.zero_point)
      zero_point(block);
    else
      single(block);
    store(out->d + lane, block.d);
    store(out->dmin + lane, block.dmin);
    for (int s = 0; s < subs_; ++s) {
      if (spec_.nested) {
        store_narrow(out->sub_scale[s] + lane, __builtin_convertvector(block.scale[s], Ints));
        store_narrow(out->sub_min[s] + lane, __builtin_convertvector(block.min[s], Ints));
      }
      emit(s, spec_.nested ? block.fit(s) : fit_of(block.d, block.dmin), out, lane);
    }
  }

  void measure(SearchResult* found, BlockSums* out, int lane) const {
    const Fit fit = fit_of(load(found->d + lane), load(found->dmin + lane));
    const Sums sum = sums(0, fit);
    store(out->qq + lane, sum.qq), store(out->q + lane, sum.q), store(out->xq + lane, sum.xq);
    store(out->error + lane, error(0, fit));
    emit(0, fit, found, lane);
  }

 private:
  static constexpr int kOffsetTries = 6;  // ranges, each with three positions
  static constexpr int kSettle = 2;       // refits of a single scale, each rounded as stored
  static constexpr int kPowerTries = 4;   // powers of two, from the first that covers the range
  static constexpr float kLeastPower = 0x1p-90f;

  Floats x(int j) const { return load(x_ + j * kStripRows); }
  Floats h(int j) const { return h_[j]; }

  /// Of a format that is not nested.
  Fit fit_of(Floats d, Floats dmin) const { return {d, spec_.zero_point ? -(d * dmin) : dmin}; }
  /// Zero is among what a block can hold.
  bool with_zero() const { return spec_.nested || spec_.zero_point; }

  /// A weight in units of levels.
  static Floats scaled(Floats x, const Fit& fit, Floats inverse_scale) {
    return (kOffset ? x - fit.offset : x) * inverse_scale;
  }

  bool even() const { return spec_.kind == SearchSpec::kConsecutive; }

  void favour_large() {
    Floats sum{};
    for (int j = 0; j < spec_.block; ++j) sum += abs(x(j));
    const Floats inv = inverse(sum * (1 / float(spec_.block)));
    const bool few_even = even() && spec_.level_count <= 64;
    for (int j = 0; j < spec_.block; ++j) {
      const Floats size = abs(x(j)) * inv;
      h_[j] = h_[j] * (1 + (few_even ? size : size * sqrt(size)));
    }
  }

  Moments moments(int s) const {
    Moments m;
    m.low = m.high = x(s * kSub);
#pragma GCC unroll 8
    for (int j = s * kSub; j < (s + 1) * kSub; ++j) {
      m.h += h(j), m.x += h(j) * x(j);
      m.low = min(m.low, x(j)), m.high = max(m.high, x(j));
    }
    return m;
  }

  Sums sums(int s, const Fit& fit) const {
    const Floats inv = inverse(fit.scale);
    Sums sum;
#pragma GCC unroll 8
    for (int j = s * kSub; j < (s + 1) * kSub; ++j) {
      const Floats q = levels_.level(scaled(x(j), fit, inv));
      const Floats hq = h(j) * q;
      sum.qq = multiply_add(hq, q, sum.qq), sum.xq = multiply_add(hq, x(j), sum.xq);
      if (kOffset) sum.q += hq;
    }
    return sum;
  }

  /// The error of what will be read back.
  Floats error(int s, const Fit& fit) const {
    const Floats inv = inverse(fit.scale);
    Floats sum{};
#pragma GCC unroll 8
    for (int j = s * kSub; j < (s + 1) * kSub; ++j) {
      const Floats q = levels_.level(scaled(x(j), fit, inv));
      const Floats r = x(j) - (kOffset ? fit.scale * q + fit.offset : fit.scale * q);
      sum = multiply_add(h(j) * r, r, sum);
    }
    return sum;
  }

  void emit(int s, const Fit& fit, SearchResult* out, int lane) const {
    const Floats inv = inverse(fit.scale);
#pragma GCC unroll 8
    for (int j = s * kSub; j < (s + 1) * kSub; ++j)
      store_narrow(out->codes[j] + lane, levels_.code(scaled(x(j), fit, inv)));
  }

  /// The best scale (and offset) for the levels summed up. Stored offsets of nested formats are not
  /// above zero.
  Best refit(const Moments& m, const Sums& sum) const {
    Fit fit{ratio(sum.xq, sum.qq), Floats{}};
    if (kOffset) {
      Floats alone = m.x / m.h;
      if (spec_.nested) alone = min(alone, Floats{});
      const Ints flat = alone * m.x > fit.scale * sum.xq;  // one value for all: no scale needed
      fit = select(flat, Fit{Floats{}, alone}, fit);
      const Floats determinant = sum.qq * m.h - sum.q * sum.q;
      Ints both = determinant > 1e-6f * sum.qq * m.h;
      const Floats offset = sum.qq * m.x - sum.q * sum.xq;
      if (spec_.nested) both &= offset <= 0;
      const Floats inv = 1 / NIBBLE_ISA::select(both, determinant, splat(1));
      fit = select(both, Fit{(m.h * sum.xq - sum.q * m.x) * inv, offset * inv}, fit);
    }
    return {fit, fit.scale * sum.xq + fit.offset * m.x};
  }

  Floats whole_zero(Floats z) const {
    return nearest_integer(
        min(max(z, splat(spec_.levels[0])), splat(spec_.levels[spec_.level_count - 1])));
  }

  /// The best scale for the zero point z and the levels summed up.
  static Best scale_for(const Moments& m, const Sums& sum, Floats z) {
    const Floats product = sum.xq - z * m.x;
    const Floats scale = ratio(product, sum.qq - z * (2 * sum.q - z * m.h));
    return {{scale, z}, scale * product};
  }

  /// With the whole zero point nearest to the candidate's offset, which takes the offset's place.
  Best refit_zero(int s, const Moments& m, const Fit& candidate) const {
    const Floats z = whole_zero(-candidate.offset * inverse(candidate.scale));
    return scale_for(m, sums(s, fit_of(candidate.scale, z)), z);
  }

  void consider(int s, const Moments& m, const Fit& candidate, Best& best) const {
    const Best next = spec_.zero_point ? refit_zero(s, m, candidate) : refit(m, sums(s, candidate));
    const Ints better = next.gain > best.gain;
    best.fit = select(better, next.fit, best.fit);
    best.gain = NIBBLE_ISA::select(better, next.gain, best.gain);
  }

  /// The best scale (and offset) of a sub-block, not yet stored in anything. Candidates make the
  /// range span from somewhat fewer steps than there are levels (so that the codes fall otherwise)
  /// to more (so that the extremes are clipped).
  Best fit(int s, const Moments& m) const {
    Best best;
    const float low = spec_.levels[spec_.first_code], high = spec_.levels[spec_.level_count - 1];
    const float steps = float(spec_.level_count - 1);
    if (kOffset) {
      const Floats bottom = with_zero() ? min(m.low, Floats{}) : m.low;
      const Floats range = (with_zero() ? max(m.high, Floats{}) : m.high) - bottom;
      const int tries = spec_.zero_point ? 2 * kOffsetTries : kOffsetTries;
      for (int k = 0; k < tries; ++k) {
        const float more = -0.9f + 0.48f * float(k);
        const Floats scale = range * (1 / (steps + more));
        for (int side = 0; side < 3; ++side)  // how much of it is clipped at the bottom
          consider(s, m, Fit{scale, bottom + scale * (0.5f * float(side) * more - low)}, best);
      }
    } else {
      // The levels reach farther to one side, so the sign of the scale matters.
      const Floats up = max(m.high * (1 / high), m.low * (1 / low));
      const Floats down = min(m.high * (1 / low), m.low * (1 / high));
      // Where columns count by what they read, the largest weight is often one that counts little.
      // Sixteen even levels gain most: Q4_0 by importance 8% of the KL divergence of SmolLM2-135M,
      // and with both signs 3% of the weighted error.
      const bool clip = spec_.clip && even() && spec_.level_count == 16;
      const int tries = clip ? 16 : spec_.level_count <= 8 ? 6 : spec_.level_count <= 64 ? 12 : 5;
      const float reach = clip ? 5.0f : spec_.level_count <= 16 ? 2.5f : 1.5f;
      const auto part = [&](int k) {
        const float t = float(k) / float(tries - 1);
        return steps / (steps + 2 * ((reach + 0.8f) * t * t - 0.8f));
      };
      // Few even levels: the sign that wins in the middle nearly always wins.
      const bool one_sign = even() && spec_.level_count <= 16 && !clip;
      const int middle = tries / 2;
      consider(s, m, Fit{up * part(middle), Floats{}}, best);
      const Floats gain = best.gain;
      consider(s, m, Fit{down * part(middle), Floats{}}, best);
      const Floats winner = NIBBLE_ISA::select(best.gain > gain, down, up);
      for (int k = 0; k < tries; ++k) {
        if (k == middle) continue;
        consider(s, m, Fit{(one_sign ? winner : up) * part(k), Floats{}}, best);
        if (!one_sign) consider(s, m, Fit{down * part(k), Floats{}}, best);
      }
    }
    if (kOffset && !spec_.zero_point)
      consider(s, m, best.fit, best);  // two parameters settle more slowly
    return best;
  }

  Fit stored(const Fit& fit) const {
    return {as_stored(spec_, fit.scale), as_stored(spec_, fit.offset)};
  }

  void single(Nested& block) const {
    const Moments m = moments(0);
    Fit best = stored(fit(0, m).fit);
    Floats least = error(0, best);
    for (int i = 0; i < kSettle; ++i) {
      const Fit next = stored(refit(m, sums(0, best)).fit);
      const Floats e = error(0, next);
      best = select(e < least, next, best);
      least = min(e, least);
    }
    block.d = best.scale, block.dmin = best.offset;
  }

  void zero_point(Nested& block) const {
    const Moments m = moments(0);
    const Fit best = fit(0, m).fit;
    Floats least = splat(1e38f);
    for (int step = -1; step <= 1; ++step) {
      const Floats z = whole_zero(best.offset + float(step));
      Floats d = as_stored(spec_, best.scale);
      for (int i = 0; i <= kSettle; ++i) {
        const Floats e = error(0, fit_of(d, z));
        const Ints better = e < least;
        block.d = NIBBLE_ISA::select(better, d, block.d);
        block.dmin = NIBBLE_ISA::select(better, z, block.dmin);
        least = min(e, least);
        d = as_stored(spec_, scale_for(m, sums(0, fit_of(d, z)), z).fit.scale);
      }
    }
  }

  /// The best of the powers of two around the range, by the exact error.
  void power(Nested& block) const {
    const Moments m = moments(0);
    const Floats reach = max(m.high, -m.low) * (1 / spec_.levels[spec_.level_count - 1]);
    const Floats top = (Floats)((Ints)max(reach, splat(kLeastPower)) & 0x7f800000) * 2;
    Floats least = splat(1e38f);
    for (int k = 0; k < kPowerTries; ++k) {
      const Floats d = top * (1 / float(1 << k)), e = error(0, Fit{d, Floats{}});
      block.d = NIBBLE_ISA::select(e < least, d, block.d);
      least = min(e, least);
    }
  }

  /// The fp16 value d for which integers in [low, high] times d come nearest to `values`.
  Floats super(const Floats* values, const Floats* weights, float low, float high) const {
    const auto integer = [&](Floats x) {
      return nearest_integer(min(max(x, splat(low)), splat(high)));
    };
    Floats extreme{}, best{}, least = splat(1e38f);
    for (int s = 0; s < subs_; ++s)
      extreme = NIBBLE_ISA::select(abs(values[s]) > abs(extreme), values[s], extreme);
    for (int k = 0; k < kSuperTries; ++k) {
      const float reach = -low > high ? low + float(k) : high - float(k);
      Floats inv = inverse(extreme * (1 / reach)), qx{}, qq{}, sum{};
      for (int s = 0; s < subs_; ++s) {
        const Floats q = integer(values[s] * inv), wq = weights[s] * q;
        qx += wq * values[s], qq += wq * q;
      }
      const Floats d = round_fp16(ratio(qx, qq));
      inv = inverse(d);
      for (int s = 0; s < subs_; ++s) {
        const Floats r = values[s] - d * integer(values[s] * inv);
        sum += weights[s] * r * r;
      }
      best = NIBBLE_ISA::select(sum < least, d, best);
      least = min(sum, least);
    }
    return best;
  }

  Floats stored_scale(Floats q) const {
    return nearest_integer(min(max(q, splat(spec_.scale_min)), splat(spec_.scale_max)));
  }
  Floats stored_min(Floats q) const {
    return nearest_integer(min(max(q, Floats{}), splat(spec_.offset_max)));
  }

  void nested(Nested& block) const {
    Moments m[kMaxSubs]{};
    Floats scales[kMaxSubs]{}, mins[kMaxSubs]{}, weights[kMaxSubs]{}, columns[kMaxSubs]{};
    for (int s = 0; s < subs_; ++s) {
      m[s] = moments(s);
      const Best best = fit(s, m[s]);
      scales[s] = best.fit.scale, mins[s] = -best.fit.offset, columns[s] = m[s].h;
      // How fast the error grows with the scale, if the offset follows: the gain is this times the
      // square of the scale, and what an offset alone would gain.
      const Floats gain = kOffset ? best.gain - m[s].x * m[s].x / m[s].h : best.gain;
      weights[s] = max(ratio(gain, scales[s] * scales[s]), 1e-3f * columns[s]);
    }
    block.d = super(scales, weights, spec_.scale_min, spec_.scale_max);
    if (kOffset) block.dmin = super(mins, columns, 0, spec_.offset_max);
    const Floats inv = inverse(block.d), inv_min = inverse(block.dmin);
    for (int s = 0; s < subs_; ++s) {
      block.scale[s] = stored_scale(scales[s] * inv);
      if (kOffset) block.min[s] = stored_min(mins[s] * inv_min);
      block.error[s] = error(s, block.fit(s));
    }
    for (int round = 0; round < (kOffset ? 2 : 1); ++round) {
      for (int s = 0; s < subs_; ++s) walk(s, m[s], inverse(block.dmin), block);
      refit_super(m, block);
    }
  }

  /// Moves the integers of a sub-block by one step where that lowers the error.
  void walk(int s, const Moments& m, Floats inverse_dmin, Nested& block) const {
    const Floats scale = block.scale[s], least = block.min[s];
    for (int step = -1; step <= 1; ++step) {
      if (!kOffset && step == 0) continue;  // that is where it stands
      const Floats next = stored_scale(scale + float(step));
      Floats next_min{};
      if (kOffset) {
        const Sums sum = sums(s, {block.d * next, -(block.dmin * least)});
        next_min = stored_min((block.d * next * sum.q - m.x) / m.h * inverse_dmin);
      }
      const Floats e = error(s, {block.d * next, -(block.dmin * next_min)});
      const Ints better = e < block.error[s];
      block.error[s] = min(e, block.error[s]);
      block.scale[s] = NIBBLE_ISA::select(better, next, block.scale[s]);
      if (kOffset) block.min[s] = NIBBLE_ISA::select(better, next_min, block.min[s]);
    }
  }

  /// The best super-scales for the codes and integers found, if they are better once stored.
  void refit_super(const Moments* m, Nested& block) const {
    Floats aa{}, ab{}, bb{}, ax{}, bx{}, error_before{}, error_after{};
    for (int s = 0; s < subs_; ++s) {
      const Sums sum = sums(s, block.fit(s));
      const Floats scale = block.scale[s], least = block.min[s];
      aa += scale * scale * sum.qq, ax += scale * sum.xq;
      if (kOffset) ab += scale * least * sum.q, bb += least * least * m[s].h, bx += least * m[s].x;
      error_before += block.error[s];
    }
    Nested next = block;
    next.d = ratio(ax, aa);
    if (kOffset) {
      const Floats determinant = aa * bb - ab * ab;
      const Ints both = determinant > 1e-6f * aa * bb;
      const Floats inv = 1 / NIBBLE_ISA::select(both, determinant, splat(1));
      next.d = NIBBLE_ISA::select(both, (bb * ax - ab * bx) * inv, next.d);
      next.dmin = NIBBLE_ISA::select(both, (ab * ax - aa * bx) * inv, block.dmin);
    }
    next.d = round_fp16(next.d), next.dmin = round_fp16(next.dmin);
    for (int s = 0; s < subs_; ++s) {
      next.error[s] = error(s, next.fit(s));
      error_after += next.error[s];
    }
    const Ints better = error_after < error_before;
    block.d = NIBBLE_ISA::select(better, next.d, block.d);
    block.dmin = NIBBLE_ISA::select(better, next.dmin, block.dmin);
    for (int s = 0; s < subs_; ++s)
      block.error[s] = NIBBLE_ISA::select(better, next.error[s], block.error[s]);
  }

  const SearchSpec& spec_;
  Levels levels_;
  const float* x_;
  int subs_;
  Floats h_[kMaxSubs * 16];  // [block]
};

/// fn(the Search of kLanes rows, lane) for all lanes.
template <class Levels, bool kOffset, int kSub, class Fn>
void each_lane(const SearchSpec& spec, const float* x, const float* h, Fn fn) {
  for (int lane = 0; lane < kStripRows; lane += kLanes)
    fn(Search<Levels, kOffset, kSub>(spec, x + lane, h), lane);
}

template <class Levels, bool kOffset, class Fn>
void with_sub(const SearchSpec& spec, const float* x, const float* h, Fn fn) {
  switch (spec.sub) {
    case 16:
      return each_lane<Levels, kOffset, 16>(spec, x, h, fn);
    case 32:
      return each_lane<Levels, kOffset, 32>(spec, x, h, fn);
    case 64:
      return each_lane<Levels, kOffset, 64>(spec, x, h, fn);
    case 128:
      return each_lane<Levels, kOffset, 128>(spec, x, h, fn);
    default:
      return each_lane<Levels, false, 256>(spec, x, h, fn);
  }
}

template <class Fn>
void with_search(const SearchSpec& spec, const float* x, const float* h, Fn fn) {
  with_levels(spec, [&](auto type) {
    using Levels = typename decltype(type)::type;
    if (spec.has_offset)
      with_sub<Consecutive, true>(spec, x, h, fn);
    else
      with_sub<Levels, false>(spec, x, h, fn);
  });
}

void search_block(const SearchSpec* spec, const float* x, const float* h, SearchResult* out) {
  with_search(*spec, x, h, [&](const auto& search, int lane) { search.run(out, lane); });
}

void measure_block(const SearchSpec* spec, const float* x, const float* h, SearchResult* found,
                   BlockSums* sums) {
  with_search(*spec, x, h,
              [&](const auto& search, int lane) { search.measure(found, sums, lane); });
}

}  // namespace

const BlockSearch& search_blocks() {
  static constexpr BlockSearch all = {kIsa, false, search_block, measure_block};
  return all;
}

}  // namespace nibble::NIBBLE_ISA
