// The operations of ops.h, on the lanes of simd.h.
#include <math.h>

#include "kernel/coded_cache.h"
#include "kernel/ops.h"
#include "kernel/tile.h"

namespace nibble::NIBBLE_ISA {
namespace {

constexpr int64_t kLanes = 16;

/// Applies f to whole groups of 16 lanes of up to two inputs; the rest goes through a padded copy.
template <class Fn>
NIBBLE_INLINE void map2(const float* a, const float* b, float* out, int64_t n, const Fn& f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, f(load(a + i), load(b + i)));
  if (i == n) return;
  float x[kLanes] = {}, y[kLanes] = {};
  memcpy(x, a + i, size_t(n - i) * sizeof(float));
  memcpy(y, b + i, size_t(n - i) * sizeof(float));
  store(x, f(load(x), load(y)));
  memcpy(out + i, x, size_t(n - i) * sizeof(float));
}

/// e^x by x = n ln 2 + r, |r| <= ln(2)/2, and the Taylor polynomial of degree 7 of e^r: its rest is
/// below r^8/8! * e^r < 8e-9, so with the roundings of the polynomial and of r the relative error
/// is below 2^-22 (a test looks at every 257th float). Clamped to [-87, 88]; NaN stays NaN.
NIBBLE_INLINE F exp(F x) {
  x = min(splat(88.0f), max(splat(-87.0f), x));
  const I n = round_int(mul(x, splat(0x1.715476p+0f)));
  const F k = to_float(n);
  F r = fma(k, splat(-0x1.62e4p-1f), x);  // ln 2 in two parts, the first with few bits
  r = fma(k, splat(-0x1.7f7d1cp-20f), r);
  F p = splat(1.0f / 5040);
  p = fma(p, r, splat(1.0f / 720));
  p = fma(p, r, splat(1.0f / 120));
  p = fma(p, r, splat(1.0f / 24));
  p = fma(p, r, splat(1.0f / 6));
  p = fma(p, r, splat(0.5f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  return mul(p, pow2(n));
}

NIBBLE_INLINE F logistic_mul(F a, F x) {  // a / (1 + e^-x)
  return div(a, add(splat(1.0f), exp(sub(zero(), x))));
}

/// 1 - 2 / (e^2x + 1): absolute error below 2^-22.
NIBBLE_INLINE F tanh(F x) {
  return sub(splat(1.0f), div(splat(2.0f), add(exp(add(x, x)), splat(1.0f))));
}

void silu_mul(const float* a, const float* b, float* out, int64_t n) {
  map2(
      a, b, out, n,
      [](F x, F y) __attribute__((always_inline)) { return mul(logistic_mul(x, x), y); });
}

/// x/2 (1 + tanh(u)) = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3)
void gelu_mul(const float* a, const float* b, float* out, int64_t n) {
  map2(
      a, b, out, n, [](F x, F y) __attribute__((always_inline)) {
        const F cubic = fma(mul(x, x), splat(0.044715f), splat(1.0f));
        return mul(logistic_mul(x, mul(mul(x, splat(1.5957691216f)), cubic)), y);
      });
}

void add_all(const float* a, const float* b, float* out, int64_t n) {
  map2(
      a, b, out, n, [](F x, F y) __attribute__((always_inline)) { return add(x, y); });
}

void softcap(float* x, int64_t n, float cap) {
  map2(
      x, x, x, n, [cap](F v, F) __attribute__((always_inline)) {
        return mul(splat(cap), tanh(div(v, splat(cap))));
      });
}

void rms_norm(const float* x, const float* w, float* out, int64_t n, float eps) {
  F sum = zero();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sum = fma(load(x + i), load(x + i), sum);
  float rest = 0;
  for (; i < n; ++i) rest += x[i] * x[i];
  const float factor = 1.0f / sqrtf((hsum(sum) + rest) / float(n) + eps);
  map2(
      x, w, out, n, [factor](F v, F u) __attribute__((always_inline)) {
        return mul(mul(v, splat(factor)), u);
      });
}

void rope(float* x, int64_t heads, int64_t head_dim, const float* cosines, const float* sines,
          bool neighbours) {
  const int64_t half = head_dim / 2;
  for (int64_t h = 0; h < heads; ++h, x += head_dim) {
    const int64_t step = neighbours ? 2 : 1, other = neighbours ? 1 : half;
    for (int64_t i = 0; i < half; ++i) {
      float* p = x + i * step;
      const float a = p[0], b = p[other];
      p[0] = a * cosines[i] - b * sines[i];
      p[other] = a * sines[i] + b * cosines[i];
    }
  }
}

void f32_to_fp16(const float* in, uint16_t* out, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_fp16(out + i, load(in + i));
  if (i == n) return;
  float x[kLanes] = {};
  uint16_t h[kLanes];
  memcpy(x, in + i, size_t(n - i) * sizeof(float));
  store_fp16(h, load(x));
  memcpy(out + i, h, size_t(n - i) * sizeof(uint16_t));
}

void fp16_to_f32(const uint16_t* in, float* out, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, load_fp16(in + i));
  if (i == n) return;
  float x[kLanes];
  uint16_t h[kLanes] = {};
  memcpy(h, in + i, size_t(n - i) * sizeof(uint16_t));
  store(x, load_fp16(h));
  memcpy(out + i, x, size_t(n - i) * sizeof(float));
}

/// The numbers of a cache: fp16 to keep it small, float32 to keep it exact.
struct CacheFp16 {
  using Value = uint16_t;
  using Panel = PanelFp16;
  static void narrow(const float* in, Value* out, int64_t n) { f32_to_fp16(in, out, n); }
  static void widen(const Value* in, float* out, int64_t n) { fp16_to_f32(in, out, n); }
};
struct CacheF32 {
  using Value = float;
  using Panel = PanelF32;
  static void narrow(const float* in, Value* out, int64_t n) {
    memcpy(out, in, size_t(n) * sizeof(float));
  }
  static void widen(const Value* in, float* out, int64_t n) { narrow(in, out, n); }
};

template <class Cache>
void store_position(const float* key, const float* value, int head_dim, void* keys, void* values,
                    int64_t position) {
  using Value = typename Cache::Value;
  Cache::narrow(value, static_cast<Value*>(values) + position * head_dim, head_dim);
  Value* out = static_cast<Value*>(keys) + position / kPanelRows * kPanelRows * head_dim +
               position % kPanelRows;
  Value few[kLanes];
  for (int64_t d = 0; d < head_dim; d += kLanes) {
    const int64_t n = head_dim - d < kLanes ? head_dim - d : kLanes;
    Cache::narrow(key + d, few, n);
    for (int64_t i = 0; i < n; ++i) out[(d + i) * kPanelRows] = few[i];
  }
}

/// The scale as fp16 holds it, which is how llama.cpp keeps those of blocks of 32; beyond the range
/// of fp16 as it is.
float storable(float scale) {
  uint16_t half[kLanes];
  float back[kLanes];
  store_fp16(half, splat(scale));
  store(back, load_fp16(half));
  return back[0] <= 65504.0f ? back[0] : scale;
}

void quantize_input(const float* x, int64_t n, int64_t block, int8_t* codes, float* scales,
                    int32_t* code_sums) {
  const F limit = splat(127.0f);  // 127 / peak may round up, or be infinite for a tiny peak
  const F least = splat(-127.0f);
  for (int64_t begin = 0; begin < n; begin += block) {
    const int64_t end = begin + block < n ? begin + block : n;
    F most = zero(), poisons = zero();
    for (int64_t i = begin; i < end; i += kLanes) {
      const F v = load(x + i);
      most = max(most, max(v, sub(zero(), v)));
      poisons = add(poisons, mul(v, zero()));
    }
    const float peak = hmax(most);
    // 0 if all are finite, else NaN: a maximum may lose it.
    const float poison = hsum(poisons);
    const bool finite = poison == 0 && peak >= 0x1p-119f;
    const F factor = splat(finite ? 127.0f / peak : 0.0f);
    for (int64_t i = begin; i < end; i += kLanes) {
      const F scaled = finite ? mul(load(x + i), factor) : zero();
      code_sums[i / kLanes] = store_codes(codes + i, round_int(max(least, min(limit, scaled))));
    }
    const float scale = block == 32 ? storable(peak / 127.0f) : peak / 127.0f;
    for (int64_t i = begin; i < end; i += 32) scales[i / 32] = scale + poison;
  }
}

/// Where a head's keys or values of a position begin.
template <class Value>
NIBBLE_INLINE const Value* at_position(const AttendArgs* a, int64_t offset, int64_t position) {
  return reinterpret_cast<const Value*>(a->pages[position / kPagePositions] + offset) +
         position % kPagePositions * a->head_dim;
}

NIBBLE_INLINE F final_score(const AttendArgs* a, F product) {
  const F s = mul(product, splat(a->scale));
  return a->cap > 0 ? mul(splat(a->cap), tanh(div(s, splat(a->cap)))) : s;
}

/// Scores of T queries with the 16 positions of each of P panels of keys, one after the other.
template <int T, int P, class Panel>
NIBBLE_INLINE void score_tile(const AttendArgs* a, const Panel (&keys)[P], const float* q,
                              float* scores, int64_t seen) {
  F sum[P][T];
  for (int p = 0; p < P; ++p)
    for (int t = 0; t < T; ++t) sum[p][t] = zero();
  dense_tile<T>(keys, a->head_dim, q, a->head_dim, 1, sum);
  for (int p = 0; p < P; ++p)
    for (int t = 0; t < T; ++t)
      store(scores + t * seen + p * kPanelRows, final_score(a, sum[p][t]));
}

/// Turns scores [begin, end) into probabilities without their common divisor, which is returned;
/// everything else in [0, seen) becomes 0.
float soften(float* scores, int64_t begin, int64_t end, int64_t seen) {
  const int64_t first = begin / kLanes * kLanes;
  for (int64_t p = 0; p < first; ++p) scores[p] = 0;
  for (int64_t p = first; p < begin; ++p) scores[p] = scores[begin];
  for (int64_t p = end; p < seen; ++p) scores[p] = scores[begin];
  F most = load(scores + first);
  for (int64_t p = first; p < seen; p += kLanes) most = max(most, load(scores + p));
  const float peak = hmax(most);
  F sum = zero();
  for (int64_t p = first; p < seen; p += kLanes) {
    F e = exp(sub(load(scores + p), splat(peak)));
    if (p < begin || p + kLanes > end) {  // the padding has no weight
      float lanes[kLanes];
      store(lanes, e);
      for (int64_t i = 0; i < kLanes; ++i)
        if (p + i < begin || p + i >= end) lanes[i] = 0;
      e = load(lanes);
    }
    store(scores + p, e);
    sum = add(sum, e);
  }
  return hsum(sum);
}

/// What attention keeps in its scratch.
struct AttendRows {
  int64_t rows, seen;   // tokens * group, positions in whole panels
  int64_t first, last;  // positions that any token sees, first in whole panels
  float *scores, *q;    // [rows][seen], [rows][head_dim]
  float *mixed, *tail;  // [rows][head_dim], [seen][16]
  float* wide;          // [kAttendStep][head_dim]: keys or values
};

/// Whether numbers of the cache are widened once, not anew for every tile of rows.
template <class Cache>
NIBBLE_INLINE bool widens(const AttendRows& r) {
  return sizeof(typename Cache::Value) < sizeof(float) && r.rows > kTile;
}

/// Scores with the keys of `count` panels from position p on; panel_at(i) is the i-th of them.
template <class PanelAt>
NIBBLE_INLINE void score_step(const AttendArgs* a, const AttendRows& r, int64_t p, int64_t count,
                              const PanelAt& panel_at) {
  for_tiles(
      r.rows, [&](int64_t row, auto n) __attribute__((always_inline)) {
        constexpr int kRows = decltype(n)::n;
        for_tiles<kPanelsOf<kRows>>(
            count, [&](int64_t k, auto panel_count) __attribute__((always_inline)) {
              constexpr int kPanels = decltype(panel_count)::n;
              decltype(panel_at(0)) keys[kPanels];
              for (int i = 0; i < kPanels; ++i) keys[i] = panel_at(k + i);
              score_tile<kRows>(a, keys, r.q + row * a->head_dim,
                                r.scores + row * r.seen + p + k * kPanelRows, r.seen);
            });
      });
}

template <class Cache>
NIBBLE_INLINE void score_all(const AttendArgs* a, const AttendRows& r) {
  using Value = typename Cache::Value;
  const int64_t size = kPanelRows * a->head_dim;
  for (int64_t p = r.first; p < r.seen; p += kAttendStep) {
    const int64_t count = (r.seen - p < kAttendStep ? r.seen - p : kAttendStep) / kPanelRows;
    const auto keys = [&](int64_t i) {
      return at_position<Value>(a, a->key_offset, p + i * kPanelRows);
    };
    if (widens<Cache>(r)) {
      for (int64_t i = 0; i < count; ++i) Cache::widen(keys(i), r.wide + i * size, size);
      score_step(a, r, p, count, [&](int64_t i) {
        return PanelF32{r.wide + i * size, kPanelRows};
      });
    } else {
      score_step(a, r, p, count, [&](int64_t i) {
        return typename Cache::Panel{keys(i), kPanelRows};
      });
    }
  }
}

/// Writes `width` dimensions of `row` from d on, divided by what q holds of it.
NIBBLE_INLINE void store_mix(const AttendArgs* a, const AttendRows& r, int64_t row, int64_t d,
                             int64_t width, F sum) {
  float lanes[kLanes];
  store(lanes, mul(sum, splat(r.q[row])));
  memcpy(a->out + row / a->group * a->out_stride + row % a->group * a->head_dim + d, lanes,
         size_t(width) * sizeof(float));
}

/// Adds the values of positions [begin, end) to what is mixed; panel_at(d) is that of the 16
/// dimensions from d on.
template <class PanelAt>
NIBBLE_INLINE void mix_step(const AttendArgs* a, const AttendRows& r, int64_t begin, int64_t end,
                            const PanelAt& panel_at) {
  const int64_t dim = a->head_dim;
  for_tiles(
      r.rows, [&](int64_t row, auto n) __attribute__((always_inline)) {
        constexpr int kRows = decltype(n)::n;
        for_tiles<kPanelsOf<kRows>>(
            dim / kLanes, [&](int64_t k, auto panel_count) __attribute__((always_inline)) {
              constexpr int kPanels = decltype(panel_count)::n;
              decltype(panel_at(0)) values[kPanels];
              F sum[kPanels][kRows];
              float* const mixed = r.mixed + row * dim + k * kLanes;
              for (int i = 0; i < kPanels; ++i) {
                values[i] = panel_at((k + i) * kLanes);
                for (int j = 0; j < kRows; ++j)
                  sum[i][j] = begin == r.first ? zero() : load(mixed + j * dim + i * kLanes);
              }
              dense_tile<kRows>(values, end - begin, r.scores + row * r.seen + begin, r.seen, 1,
                                sum);
              for (int i = 0; i < kPanels; ++i)
                for (int j = 0; j < kRows; ++j) store(mixed + j * dim + i * kLanes, sum[i][j]);
            });
      });
}

/// Mixes whole lanes of the values of all positions, a page at a time.
template <class Cache>
NIBBLE_INLINE void mix_lanes(const AttendArgs* a, const AttendRows& r) {
  using Value = typename Cache::Value;
  static_assert(kPagePositions <= kAttendStep);
  const int64_t dim = a->head_dim;
  for (int64_t p = r.first, end; p < r.last; p = end) {
    end = (p / kPagePositions + 1) * kPagePositions;
    if (end > r.last) end = r.last;
    const Value* values = at_position<Value>(a, a->value_offset, p);
    if (widens<Cache>(r)) {
      Cache::widen(values, r.wide, (end - p) * dim);
      mix_step(a, r, p, end, [&](int64_t d) { return PanelF32{r.wide + d, dim}; });
    } else {
      mix_step(a, r, p, end, [&](int64_t d) { return typename Cache::Panel{values + d, dim}; });
    }
  }
  for (int64_t row = 0; row < r.rows; ++row)
    for (int64_t d = 0; d + kLanes <= dim; d += kLanes)
      store_mix(a, r, row, d, kLanes, load(r.mixed + row * dim + d));
}

/// Mixes the dimensions that fill no lanes.
template <class Cache>
NIBBLE_INLINE void mix_rest(const AttendArgs* a, const AttendRows& r) {
  const int64_t d = a->head_dim / kLanes * kLanes, width = a->head_dim - d;
  if (width == 0) return;
  for (int64_t p = r.first; p < r.last; ++p) {
    memset(r.tail + p * kLanes, 0, kLanes * sizeof(float));
    Cache::widen(at_position<typename Cache::Value>(a, a->value_offset, p) + d, r.tail + p * kLanes,
                 width);
  }
  const PanelF32 values[1] = {{r.tail + r.first * kLanes, kLanes}};
  for_tiles(
      r.rows, [&](int64_t row, auto count) __attribute__((always_inline)) {
        constexpr int n = decltype(count)::n;
        F sum[1][n];
        for (int j = 0; j < n; ++j) sum[0][j] = zero();
        dense_tile<n>(values, r.last - r.first, r.scores + row * r.seen + r.first, r.seen, 1, sum);
        for (int j = 0; j < n; ++j) store_mix(a, r, row + j, d, width, sum[0][j]);
      });
}

AttendRows attend_rows(const AttendArgs* a) {
  const int64_t last = a->position + a->tokens;
  const int64_t first_token = a->window > 0 ? a->position - a->window + 1 : 0;
  AttendRows r;
  r.rows = a->tokens * a->group, r.seen = (last + kPanelRows - 1) / kPanelRows * kPanelRows;
  r.first = first_token > 0 ? first_token / kPanelRows * kPanelRows : 0, r.last = last;
  r.scores = a->scratch, r.q = r.scores + r.rows * r.seen, r.mixed = r.q + r.rows * a->head_dim;
  r.tail = r.mixed + r.rows * a->head_dim, r.wide = r.tail + r.seen * kLanes;
  return r;
}

/// Softens the scores of a row; one over their divisor.
NIBBLE_INLINE float soften_row(const AttendArgs* a, const AttendRows& r, int64_t row) {
  const int64_t end = a->position + row / a->group + 1;
  const int64_t begin = a->window > 0 && end > a->window ? end - a->window : 0;
  return 1.0f / soften(r.scores + row * r.seen, begin, end, r.seen);
}

template <class Cache>
void attend(const AttendArgs* a) {
  const int64_t dim = a->head_dim, group = a->group;
  const AttendRows r = attend_rows(a);
  for (int64_t t = 0; t < a->tokens; ++t)
    memcpy(r.q + t * group * dim, a->q + t * a->q_stride, size_t(group * dim) * sizeof(float));
  score_all<Cache>(a, r);
  // The queries are not needed any more, and rows <= rows * dim.
  for (int64_t row = 0; row < r.rows; ++row) r.q[row] = soften_row(a, r, row);
  mix_lanes<Cache>(a, r);
  mix_rest<Cache>(a, r);
}

/// Calls f(first, Count<n>) for up to four of `rows` at once: three queries share a head often.
template <class Fn>
NIBBLE_INLINE void for_rows(int64_t rows, const Fn& f) {
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) f(i, Count<4>());
  if (rows - i == 3) f(i, Count<3>());
  if (rows - i == 2) f(i, Count<2>());
  if (rows - i == 1) f(i, Count<1>());
}

/// Turns and rounds all queries, into the scratch behind the scores: [rows][width] floats, which
/// are free afterwards, then what is returned.
template <class Cache>
typename Cache::Queries round_queries(const AttendArgs* a, const AttendRows& r) {
  const int64_t dim = a->head_dim, width = cache_blocks(dim) * kCacheBlock, n = r.rows * width;
  for (int64_t row = 0; row < r.rows; ++row) {
    float* q = r.q + row * width;
    memcpy(q, a->q + row / a->group * a->q_stride + row % a->group * dim,
           size_t(dim) * sizeof(float));
    memset(q + dim, 0, size_t(width - dim) * sizeof(float));
    turn(q, dim, turn_size(dim));
  }
  float* scales = r.q + n;
  auto* sums = reinterpret_cast<int32_t*>(scales + n / kCacheBlock);
  auto* codes = reinterpret_cast<int8_t*>(sums + n / 16);
  quantize_input(r.q, n, kCacheBlock, codes, scales, sums);
  return {Cache::Dot::inputs(codes, n, codes + n), scales, sums, width};
}

template <class Cache>
NIBBLE_INLINE void mix_coded(const AttendArgs* a, const AttendRows& r, int64_t width) {
  const int64_t blocks = width / kCacheBlock;
  for (int64_t block = 0; block < blocks; ++block)
    for_rows(
        r.rows, [&](int64_t row, auto count) __attribute__((always_inline)) {
          constexpr int n = decltype(count)::n;
          F sum[2][n];
          for (auto& half : sum)
            for (F& each : half) each = zero();
          for (int64_t p = r.first / kPagePositions * kPagePositions; p < r.last;
               p += kPagePositions)
            Cache::template mix<n>(a->pages[p / kPagePositions] + a->value_offset, blocks, block,
                                   r.scores + row * r.seen + p, r.seen,
                                   r.last - p < kPagePositions ? r.last - p : kPagePositions, sum);
          for (int half = 0; half < 2; ++half)
            for (int i = 0; i < n; ++i)
              store(r.q + (row + i) * width + block * kCacheBlock + half * kLanes, sum[half][i]);
        });
}

/// Attention with a cache of codes.
template <class Cache>
void attend_coded(const AttendArgs* a) {
  const AttendRows r = attend_rows(a);
  const auto queries = round_queries<Cache>(a, r);
  for (int64_t p = r.first; p < r.seen; p += kPanelRows)
    for_rows(
        r.rows, [&](int64_t row, auto count) __attribute__((always_inline)) {
          constexpr int n = decltype(count)::n;
          F sum[n];
          Cache::template score<n>(a->pages[p / kPagePositions] + a->key_offset,
                                   p % kPagePositions / kPanelRows, queries, row, sum);
          for (int i = 0; i < n; ++i)
            store(r.scores + (row + i) * r.seen + p, final_score(a, sum[i]));
        });
  float* inverse = r.q + r.rows * queries.width;  // the codes are not needed any more
  for (int64_t row = 0; row < r.rows; ++row) inverse[row] = soften_row(a, r, row);
  mix_coded<Cache>(a, r, queries.width);
  for (int64_t row = 0; row < r.rows; ++row) {
    float* mixed = r.q + row * queries.width;
    turn(mixed, a->head_dim, turn_size(a->head_dim));
    float* out = a->out + row / a->group * a->out_stride + row % a->group * a->head_dim;
    for (int64_t d = 0; d < a->head_dim; ++d) out[d] = mixed[d] * inverse[row];
  }
}

int64_t peak_int8(int64_t rounds) {
  constexpr int kSums = DotSmall::kTokens * kTilePanels;
  uint8_t bytes[64], x[4 * kSums];
  for (int i = 0; i < 64; ++i) bytes[i] = uint8_t(i % 16);
  for (int i = 0; i < 4 * kSums; ++i) x[i] = uint8_t(i);
  const Codes codes = load_codes(bytes);
  DotSmall dot[kSums];
#pragma GCC unroll 16
  for (int t = 0; t < kSums; ++t) dot[t].start(0);
  for (int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 16
    for (int t = 0; t < kSums; ++t) dot[t].add(codes, x + 4 * t, 0);
  F sum = zero();
#pragma GCC unroll 16
  for (int t = 0; t < kSums; ++t) sum = add(sum, to_float(dot[t].total(0)));
  volatile float used = hsum(sum);
  (void)used;
  return rounds * kSums * 2 * 64;
}

int64_t peak_bf16(int64_t rounds) {
  constexpr int kSums = 12;  // two multiplications a cycle that take four, and some to spare
  float values[16], x[kSums];
  for (int i = 0; i < 16; ++i) values[i] = 1;
  for (int i = 0; i < kSums; ++i) x[i] = 0;
  const F w = load(values);
  F sums[kSums];
#pragma GCC unroll 16
  for (int t = 0; t < kSums; ++t) sums[t] = zero();
  for (int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 16
    for (int t = 0; t < kSums; ++t) sums[t] = StepBf16::add(w, x[t], sums[t]);
  F sum = zero();
#pragma GCC unroll 16
  for (int t = 0; t < kSums; ++t) sum = add(sum, sums[t]);
  volatile float used = hsum(sum);
  (void)used;
  return rounds * kSums * 2 * 16 * StepBf16::kColumns;
}

}  // namespace

const Ops& ops_transformer() {
  static constexpr Ops ops{NIBBLE_TEXT(NIBBLE_ISA),
                           &rms_norm,
                           &silu_mul,
                           &gelu_mul,
                           &add_all,
                           &softcap,
                           &rope,
                           {{"f32", 32, 0, &store_position<CacheF32>, &attend<CacheF32>},
                            {"f16", 16, 0, &store_position<CacheFp16>, &attend<CacheFp16>},
                            {"q8_0", 8, 32, &CodedCache<8>::keep, &attend_coded<CodedCache<8>>},
                            {"q4_0", 4, 32, &CodedCache<4>::keep, &attend_coded<CodedCache<4>>}},
                           &f32_to_fp16,
                           &fp16_to_f32,
                           &quantize_input,
                           {StepBf16::kColumns, &StepBf16::inputs},
                           &peak_int8,
                           &peak_bf16};
  return ops;
}

}  // namespace nibble::NIBBLE_ISA
