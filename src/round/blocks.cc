// The search itself: see search.h.
#include "round/search.h"
#include "round/vec.h"

namespace nibble::NIBBLE_ISA {
namespace {

// How far the search goes.
constexpr struct {
  int cand = 16, both = 1, lloyd = 2, rounds = 2, dcand = 8, anchors = 3, ring = 1;
  float lo = -0.9f, hi = 1.5f;
} kTuning;

constexpr int kMaxSub = 16;

/// Levels that are consecutive integers.
struct Consecutive {
  Floats lo, hi;
  explicit Consecutive(const SearchSpec& spec)
      : lo(splat(spec.levels[spec.first_code])), hi(splat(spec.levels[spec.level_count - 1])) {}
  Floats level(Floats x) const { return nearest_integer(min(max(x, lo), hi)); }
  Floats code(Floats x, const SearchSpec& spec) const { return level(x) - float(spec.levels[0]); }
};

/// 16 levels from a table, found by bisection in a tree laid out as a heap.
struct Table {
  float middle[16];  // node i has children 2i and 2i + 1
  float levels[16];
  explicit Table(const SearchSpec& spec) {
    for (int depth = 0; depth < 4; ++depth)
      for (int i = 0; i < 1 << depth; ++i) {
        const int upper = (2 * i + 1) << (3 - depth);
        middle[(1 << depth) + i] = 0.5f * float(spec.levels[upper - 1] + spec.levels[upper]);
      }
    for (int i = 0; i < 16; ++i) levels[i] = spec.levels[i];
  }
#if NIBBLE_VECTOR_BYTES == 32 && !defined(__clang__)
  static Floats pick(const float* table, Ints i) {
    return __builtin_shuffle(*(const Floats*)table, i);
  }
  Ints leaf(Floats x) const {
    Ints node = Ints{} + 1;
    node = node + node - (x > middle[1]);
    Floats top;
    __builtin_memcpy(&top, middle, sizeof top);
    node = node + node - (x > __builtin_shuffle(top, node));
    node = node + node - (x > __builtin_shuffle(top, node));
    Floats bottom;
    __builtin_memcpy(&bottom, middle + 8, sizeof bottom);
    node = node + node - (x > __builtin_shuffle(bottom, node));
    return node & 15;
  }
  Floats at(Ints leaf) const {
    Floats low, high;
    __builtin_memcpy(&low, levels, sizeof low);
    __builtin_memcpy(&high, levels + 8, sizeof high);
    return select(leaf > 7, __builtin_shuffle(high, leaf), __builtin_shuffle(low, leaf));
  }
#else
  Ints leaf(Floats x) const {
    Ints node = Ints{} + 1;
    for (int depth = 0; depth < 4; ++depth) {
      Floats m;
      for (int l = 0; l < kLanes; ++l) m[l] = middle[node[l]];
      node = node + node - (x > m);
    }
    return node & 15;
  }
  Floats at(Ints leaf) const {
    Floats m;
    for (int l = 0; l < kLanes; ++l) m[l] = levels[leaf[l]];
    return m;
  }
#endif
  Floats level(Floats x) const { return at(leaf(x)); }
  Floats code(Floats x, const SearchSpec&) const {
    return __builtin_convertvector(leaf(x), Floats);
  }
};

/// Weighted sums over one sub-block with the codes of one grid: all that a closed-form refit needs.
struct Sums {
  Floats qq{}, q{}, xq{};
};

/// Sums over one sub-block that depend on the weights alone.
struct Moments {
  Floats h{}, x{}, xx{}, low{}, high{};
};

struct Fit {
  Floats scale, offset;
};

template <class Levels, bool kOffset>
class Search {
 public:
  Search(const SearchSpec& spec, const float* x, const float* h)
      : spec_(spec), levels_(spec), x_(x), h_(h) {}
  void run(SearchResult* out, int lane);

 private:
  const Floats& x(int j) const { return *(const Floats*)(x_ + j * kStripRows); }
  Floats h(int j) const { return splat(h_[j]); }
  int sub() const { return spec_.sub; }

  Moments moments(int s) const {
    Moments m;
    m.low = m.high = x(s * sub());
    for (int j = s * sub(); j < (s + 1) * sub(); ++j) {
      const Floats hx = h(j) * x(j);
      m.h += h(j), m.x += hx, m.xx += hx * x(j);
      m.low = min(m.low, x(j)), m.high = max(m.high, x(j));
    }
    return m;
  }

  Sums sums(int s, Fit fit) const {
    const Floats inv = inverse(fit.scale);
    Sums sum;
    for (int j = s * sub(); j < (s + 1) * sub(); ++j) {
      const Floats q = levels_.level(kOffset ? (x(j) - fit.offset) * inv : x(j) * inv);
      const Floats hq = h(j) * q;
      sum.qq += hq * q, sum.xq += hq * x(j);
      if (kOffset) sum.q += hq;
    }
    return sum;
  }

  Floats error(int s, Fit fit) const {
    const Floats inv = inverse(fit.scale);
    Floats e{};
    for (int j = s * sub(); j < (s + 1) * sub(); ++j) {
      const Floats q = levels_.level(kOffset ? (x(j) - fit.offset) * inv : x(j) * inv);
      const Floats r = x(j) - (kOffset ? fit.scale * q + fit.offset : fit.scale * q);
      e += h(j) * r * r;
    }
    return e;
  }

  /// Best scale (and offset) for given codes, and by how much it lowers the error below sum h x^2.
  Fit refit(const Moments& m, const Sums& sum, Floats* gain) const {
    Fit fit{ratio(sum.xq, sum.qq), Floats{}};
    if (kOffset) {
      const Floats scale_gain = fit.scale * sum.xq;
      Floats alone = m.x / m.h;
      if (spec_.nested) alone = min(alone, Floats{});
      const Ints flat = alone * m.x > scale_gain;  // one value for all is better than no offset
      fit.scale = select(flat, Floats{}, fit.scale);
      fit.offset = select(flat, alone, Floats{});
      const Floats det = sum.qq * m.h - sum.q * sum.q;
      const Floats scale = m.h * sum.xq - sum.q * m.x, offset = sum.qq * m.x - sum.q * sum.xq;
      Ints both = det > 1e-6f * sum.qq * m.h;
      if (spec_.nested) both &= offset <= 0;
      const Floats inv = 1 / select(both, det, splat(1));
      fit.scale = select(both, scale * inv, fit.scale);
      fit.offset = select(both, offset * inv, fit.offset);
    }
    *gain = fit.scale * sum.xq + fit.offset * m.x;
    return fit;
  }

  void consider(int s, const Moments& m, Fit candidate, Fit* best, Floats* best_gain) const {
    Floats gain;
    const Fit fit = refit(m, sums(s, candidate), &gain);
    const Ints better = gain > *best_gain;
    *best_gain = select(better, gain, *best_gain);
    best->scale = select(better, fit.scale, best->scale);
    best->offset = select(better, fit.offset, best->offset);
  }

  Fit fit(int s, const Moments& m) const {
    constexpr auto& t = kTuning;
    Fit best{Floats{}, Floats{}};
    Floats gain = splat(-1);
    const float lo = spec_.levels[spec_.first_code], hi = spec_.levels[spec_.level_count - 1];
    const float steps = float(spec_.level_count - 1);
    if (kOffset) {
      const Floats low = spec_.nested ? min(m.low, Floats{}) : m.low,
                   high = spec_.nested ? max(m.high, Floats{}) : m.high, range = high - low;
      for (int k = 0; k < t.cand; ++k) {
        const float delta = t.cand == 1 ? 0 : t.lo + (t.hi - t.lo) * float(k) / float(t.cand - 1);
        const Floats scale = range * (1 / (steps + delta));
        if (t.anchors & 1) consider(s, m, {scale, low}, &best, &gain);
        if (t.anchors & 2)
          consider(s, m, {scale, low + range * (0.5f * delta / (steps + delta))}, &best, &gain);
        if (t.anchors & 4)
          consider(s, m, {scale, low + range * (delta / (steps + delta))}, &best, &gain);
      }
    } else {
      const Floats up = max(m.high * (1 / hi), m.low * (1 / lo)),
                   down = max(m.high * (1 / lo) * -1.f, m.low * (-1 / hi)) * -1.f;
      const Ints longer_up = up < -down;
      for (int k = 0; k < t.cand; ++k) {
        const float delta = t.lo + (t.hi - t.lo) * float(k) / float(t.cand > 1 ? t.cand - 1 : 1);
        const float f = steps / (steps + 2 * delta);
        if (t.both) {
          consider(s, m, {up * f, Floats{}}, &best, &gain);
          consider(s, m, {down * f, Floats{}}, &best, &gain);
        } else
          consider(s, m, {select(longer_up, up, down) * f, Floats{}}, &best, &gain);
      }
    }
    for (int i = 0; i < t.lloyd; ++i) consider(s, m, best, &best, &gain);
    return best;
  }

  void run_single(SearchResult* out, int lane);
  void run_nested(SearchResult* out, int lane);
  void choose_super(const Floats* value, const Floats* weight, int subs, float lo, float hi,
                    Floats* d) const;
  void refine(const Moments* m, int subs, Floats& d, Floats& dmin, Floats* L, Floats* M, Floats* e,
              bool widen) const;
  void emit(int s, Fit fit, SearchResult* out, int lane) const {
    const Floats inv = inverse(fit.scale);
    for (int j = s * sub(); j < (s + 1) * sub(); ++j) {
      const Ints code = __builtin_convertvector(
          levels_.code(kOffset ? (x(j) - fit.offset) * inv : x(j) * inv, spec_), Ints);
      for (int l = 0; l < kLanes; ++l) out->codes[j][lane + l] = uint8_t(code[l]);
    }
  }

  const SearchSpec& spec_;
  Levels levels_;
  const float* x_;
  const float* h_;
};

template <class Levels, bool kOffset>
void Search<Levels, kOffset>::run_single(SearchResult* out, int lane) {
  constexpr auto& t = kTuning;
  const Moments m = moments(0);
  const auto stored = [](Fit f) {
    return Fit{round_fp16(f.scale), kOffset ? round_fp16(f.offset) : Floats{}};
  };
  Fit best = stored(fit(0, m));
  Floats e = error(0, best);
  for (int i = 0; i < t.rounds; ++i) {
    Floats gain;
    const Fit next = stored(refit(m, sums(0, best), &gain));
    const Floats error_next = error(0, next);
    const Ints better = error_next < e;
    best.scale = select(better, next.scale, best.scale);
    best.offset = select(better, next.offset, best.offset);
    e = min(e, error_next);
  }
  emit(0, best, out, lane);
  *(Floats*)(out->d + lane) = best.scale;
  *(Floats*)(out->dmin + lane) = best.offset;
}

/// The fp16 super-scale d for which integers in [lo, hi] times d come nearest to the values.
template <class Levels, bool kOffset>
void Search<Levels, kOffset>::choose_super(const Floats* value, const Floats* weight, int subs,
                                           float lo, float hi, Floats* d) const {
  Floats extreme{};
  for (int s = 0; s < subs; ++s) extreme = select(abs(value[s]) > abs(extreme), value[s], extreme);
  Floats best_e = splat(1e38f);
  const float longer = -lo > hi ? lo : hi;
  for (int k = 0; k < kTuning.dcand; ++k) {
    const float f = longer > 0 ? longer - float(k) : longer + float(k);
    if (f == 0) break;
    Floats c = round_fp16(extreme * (1 / f));
    Floats inv = inverse(c), e{};
    Floats num{}, den{};
    for (int s = 0; s < subs; ++s) {
      const Floats q = nearest_integer(min(max(value[s] * inv, splat(lo)), splat(hi)));
      num += weight[s] * q * value[s], den += weight[s] * q * q;
    }
    c = round_fp16(ratio(num, den));
    inv = inverse(c);
    for (int s = 0; s < subs; ++s) {
      const Floats q = nearest_integer(min(max(value[s] * inv, splat(lo)), splat(hi)));
      const Floats r = value[s] - c * q;
      e += weight[s] * r * r;
    }
    *d = select(e < best_e, c, *d);
    best_e = min(e, best_e);
  }
}

template <class Levels, bool kOffset>
void Search<Levels, kOffset>::refine(const Moments* m, int subs, Floats& d, Floats& dmin, Floats* L,
                                     Floats* M, Floats* e, bool) const {
  const Floats inv_dmin = inverse(dmin);
  const Floats lo = splat(spec_.scale_min), hi = splat(spec_.scale_max);
  for (int s = 0; s < subs; ++s) {
    Floats best_L = L[s], best_M = M[s];
    const Floats L0 = L[s], M0 = M[s];
    for (int step = -kTuning.ring; step <= kTuning.ring; ++step) {
      const Floats l = min(max(L0 + float(step), lo), hi);
      Floats mm{};
      if (kOffset) {
        const Floats scale = d * l;
        const Sums sum = sums(s, {scale, -(dmin * M0)});
        const Floats offset = (m[s].x - scale * sum.q) / m[s].h;
        mm = nearest_integer(min(max(-offset * inv_dmin, Floats{}), splat(spec_.offset_max)));
      } else if (step == 0)
        continue;
      const Floats el = error(s, {d * l, kOffset ? -(dmin * mm) : Floats{}});
      const Ints better = el < e[s];
      e[s] = select(better, el, e[s]);
      best_L = select(better, l, best_L);
      best_M = select(better, mm, best_M);
    }
    L[s] = best_L, M[s] = best_M;
  }
}

template <class Levels, bool kOffset>
void Search<Levels, kOffset>::run_nested(SearchResult* out, int lane) {
  const int subs = spec_.block / spec_.sub;
  Moments m[kMaxSub];
  Floats value[kMaxSub]{}, offset[kMaxSub]{}, weight[kMaxSub]{}, weight_h[kMaxSub]{}, L[kMaxSub]{},
      M[kMaxSub]{}, e[kMaxSub]{};
  for (int s = 0; s < subs; ++s) {
    m[s] = moments(s);
    const Fit f = fit(s, m[s]);
    value[s] = f.scale, offset[s] = -f.offset;
    const Sums sum = sums(s, f);
    weight[s] = kOffset ? max(sum.qq - sum.q * ratio(sum.q, m[s].h), 1e-3f * sum.qq) : sum.qq;
    weight_h[s] = m[s].h;
    M[s] = Floats{};
  }
  Floats d{}, dmin{};
  choose_super(value, weight, subs, spec_.scale_min, spec_.scale_max, &d);
  if (kOffset) choose_super(offset, weight_h, subs, 0, spec_.offset_max, &dmin);
  const Floats lo = splat(spec_.scale_min), hi = splat(spec_.scale_max);
  Floats inv = inverse(d), inv_min = inverse(dmin);
  for (int s = 0; s < subs; ++s) {
    L[s] = nearest_integer(min(max(value[s] * inv, lo), hi));
    if (kOffset)
      M[s] = nearest_integer(min(max(offset[s] * inv_min, Floats{}), splat(spec_.offset_max)));
    e[s] = error(s, {d * L[s], -(dmin * M[s])});
  }
  for (int i = 0; i < kTuning.rounds; ++i) {
    refine(m, subs, d, dmin, L, M, e, i == 0);
    // refit
    Floats aa{}, ab{}, bb{}, ax{}, bx{}, total{};
    for (int s = 0; s < subs; ++s) {
      const Sums sum = sums(s, {d * L[s], -(dmin * M[s])});
      aa += L[s] * L[s] * sum.qq, ax += L[s] * sum.xq, total += e[s];
      if (kOffset) ab += L[s] * M[s] * sum.q, bb += M[s] * M[s] * m[s].h, bx += M[s] * m[s].x;
    }
    Floats nd = ratio(ax, aa), nm{};
    if (kOffset) {
      const Floats det = aa * bb - ab * ab;
      const Ints both = det > 1e-6f * aa * bb;
      const Floats idet = select(both, 1 / select(both, det, splat(1)), Floats{});
      nd = select(both, (bb * ax - ab * bx) * idet, nd);
      nm = select(both, (aa * bx - ab * ax) * -idet, dmin);
    }
    nd = round_fp16(nd), nm = round_fp16(nm);
    Floats ne[kMaxSub], ntotal{};
    for (int s = 0; s < subs; ++s) {
      ne[s] = error(s, {nd * L[s], -(nm * M[s])});
      ntotal += ne[s];
    }
    const Ints better = ntotal < total;
    d = select(better, nd, d), dmin = select(better, nm, dmin);
    for (int s = 0; s < subs; ++s) e[s] = select(better, ne[s], e[s]);
  }
  for (int s = 0; s < subs; ++s) {
    emit(s, {d * L[s], -(dmin * M[s])}, out, lane);
    for (int l = 0; l < kLanes; ++l) {
      out->sub_scale[s][lane + l] = int16_t(L[s][l]);
      out->sub_min[s][lane + l] = int16_t(M[s][l]);
    }
  }
  *(Floats*)(out->d + lane) = d;
  *(Floats*)(out->dmin + lane) = dmin;
}

template <class Levels, bool kOffset>
void run(const SearchSpec& spec, const float* x, const float* h, SearchResult* out) {
  for (int lane = 0; lane < kStripRows; lane += kLanes) {
    Search<Levels, kOffset> search(spec, x + lane, h);
    search.run(out, lane);
  }
}

template <class Levels, bool kOffset>
void Search<Levels, kOffset>::run(SearchResult* out, int lane) {
  if (spec_.nested)
    run_nested(out, lane);
  else
    run_single(out, lane);
}

void search_block(const SearchSpec* spec, const float* x, const float* h, SearchResult* out) {
  if (!spec->consecutive)
    run<Table, false>(*spec, x, h, out);
  else if (spec->has_offset)
    run<Consecutive, true>(*spec, x, h, out);
  else
    run<Consecutive, false>(*spec, x, h, out);
}

}  // namespace

const BlockSearch& search_blocks() {
  static constexpr BlockSearch search = {kIsa, search_block};
  return search;
}

}  // namespace nibble::NIBBLE_ISA
