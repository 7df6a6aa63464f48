// The loops that every packing shares, on the lanes of simd.h: sums of a panel of 16 rows with a
// few tokens at once, kept in registers.
#pragma once

#include "kernel/simd.h"

namespace nibble::NIBBLE_ISA {

/// Panels of floating point weights, `stride` values from one column to the next.
struct PanelF32 {
  static constexpr bool kBf16 = false;
  const float* at;
  int64_t stride;
  NIBBLE_METHOD F column(int64_t j) const { return load(at + j * stride); }
};
struct PanelFp16 {
  static constexpr bool kBf16 = false;
  const uint16_t* at;
  int64_t stride;
  NIBBLE_METHOD F column(int64_t j) const { return load_fp16(at + j * stride); }
};
struct PanelBf16 {
  static constexpr bool kBf16 = true;  // holds nothing else: not to be rounded
  const uint16_t* at;
  int64_t stride;
  NIBBLE_METHOD F column(int64_t j) const { return load_bf16(at + j * stride); }
};
inline constexpr int64_t kPrefetch = 4096;  // bytes ahead: with one token products wait for memory

/// A panel that is fetched ahead of where it is read.
template <class Panel>
struct PanelAhead {
  static constexpr bool kBf16 = Panel::kBf16;
  Panel from;
  NIBBLE_METHOD F column(int64_t j) const {
    __builtin_prefetch(reinterpret_cast<const char*>(from.at + j * from.stride) + kPrefetch);
    return from.column(j);
  }
};
/// A panel as steps of StepBf16.
template <class Panel>
struct PanelSteps {
  Panel from;
  NIBBLE_METHOD F column(int64_t j) const { return StepBf16::weights(from, j); }
};

/// What is added to a sum at a time: a column.
struct StepF32 {
  static constexpr int kColumns = 1;
  NIBBLE_METHOD static F add(F w, float x, F sum) { return fma(w, splat(x), sum); }
};

/// out[i][t] = in[t][i], words of 4 bytes. What the tokens of a tile have
/// at one place lies side by side, so that a tile reads one stream: rows of inputs are often a
/// power of two apart, and a first cache has few places for such addresses.
static inline void interleave(const void* in, int64_t stride, int64_t tokens, int64_t words,
                              void* out) {
  typedef int32_t Four __attribute__((vector_size(16)));
  const char* from = static_cast<const char*>(in);
  char* to = static_cast<char*>(out);
  int64_t t = 0;
  for (; t + 4 <= tokens; t += 4, from += 4 * stride, to += 16) {
    const char* at = from;
    char* side = to;
    int64_t left = words;
    for (; left >= 4; left -= 4, at += 16, side += 16 * tokens) {
      Four r[4];
      for (int k = 0; k < 4; ++k) memcpy(&r[k], at + k * stride, sizeof(Four));
      const Four a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
      const Four b = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
      const Four c = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
      const Four d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
      r[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5);
      r[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
      r[2] = __builtin_shufflevector(c, d, 0, 1, 4, 5);
      r[3] = __builtin_shufflevector(c, d, 2, 3, 6, 7);
      for (int k = 0; k < 4; ++k) memcpy(side + 4 * k * tokens, &r[k], sizeof(Four));
    }
    for (; left > 0; --left, at += 4, side += 4 * tokens)
      for (int k = 0; k < 4; ++k) memcpy(side + 4 * k, at + k * stride, 4);
  }
  for (; t < tokens; ++t, from += stride, to += 4)
    for (int64_t i = 0; i < words; ++i) memcpy(to + 4 * i * tokens, from + 4 * i, 4);
}

/// sum[p][t] += panels[p] * x[t], where x[t] is at x + t * x_stride, in steps of x_step. Every sum
/// adds its columns in their order, so what a token gets does not depend on the tokens beside it.
template <int T, class Step = StepF32, int P, class Panel>
NIBBLE_INLINE void dense_tile(const Panel (&panels)[P], int64_t columns, const float* x,
                              int64_t x_stride, int64_t x_step, F (&sum)[P][T]) {
  F acc[P][T];
  for (int p = 0; p < P; ++p)
    for (int t = 0; t < T; ++t) acc[p][t] = sum[p][t];
  for (int64_t j = 0; j < columns; ++j)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      const F w = panels[p].column(j);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) acc[p][t] = Step::add(w, x[t * x_stride + j * x_step], acc[p][t]);
    }
  for (int p = 0; p < P; ++p)
    for (int t = 0; t < T; ++t) sum[p][t] = acc[p][t];
}

template <int N>
struct Count {
  static constexpr int n = N;
};
/// Calls f(Count<n>) for an n of 1 to Most.
template <int Most, class Fn>
NIBBLE_INLINE void for_count(int64_t n, const Fn& f) {
  if constexpr (Most > 1)
    if (n < Most) return for_count<Most - 1>(n, f);
  f(Count<Most>());
}
/// Calls f(first, Count<n>) for tiles of n, at most `Widest`, that cover [0, count): the widest
/// that fit.
template <int Widest = kTile, class Fn>
NIBBLE_INLINE void for_tiles(int64_t count, const Fn& f) {
  int64_t i = 0;
  for (; i + Widest <= count; i += Widest) {
    if (Widest > 4 && count - i == 8) break;  // two of 4
    f(i, Count<Widest>());
  }
  if constexpr (Widest > 4)
    for (; i + 4 <= count; i += 4) f(i, Count<4>());
  if constexpr (Widest > 2)
    if (i + 2 <= count) f(i, Count<2>()), i += 2;
  if constexpr (Widest > 1)
    if (i < count) f(i, Count<1>());
}

/// Panels whose sums with T tokens go together: few sums would wait for each other.
template <int T>
inline constexpr int kPanelsOf = T >= 4 ? kTilePanels : 4 / T;
inline constexpr int64_t kPanelGroup = 4;

/// Writes the rows of a panel that exist.
NIBBLE_INLINE void store_rows(const PackedView* w, const Work* work, int64_t panel, int64_t token,
                              F x) {
  float* out = work->out + token * work->out_stride + panel * kPanelRows;
  const int64_t rows = w->rows - panel * kPanelRows;
  if (rows >= kPanelRows) return store(out, x);
  float all[kPanelRows];
  store(all, x);
  memcpy(out, all, size_t(rows) * sizeof(float));
}

/// Takes up the sums of P panels and T tokens, `stride` floats from one panel to the next, 0 before
/// the first columns.
template <int P, int T>
NIBBLE_INLINE void load_sums(const float* from, int64_t stride, bool first, F (&sum)[P][T]) {
  for (int p = 0; p < P; ++p)
    for (int t = 0; t < T; ++t)
      sum[p][t] = first ? zero() : load(from + p * stride + t * kPanelRows);
}
/// Puts them back, or after the last columns writes them out as those of tokens from `token` on.
template <int P, int T>
NIBBLE_INLINE void put_sums(const PackedView* w, const Work* work, int64_t panel, int64_t token,
                            float* to, int64_t stride, bool last, const F (&sum)[P][T]) {
  for (int p = 0; p < P; ++p)
    for (int t = 0; t < T; ++t) {
      if (last)
        store_rows(w, work, panel + p, token + t, sum[p][t]);
      else
        store(to + p * stride + t * kPanelRows, sum[p][t]);
    }
}

inline constexpr int64_t kTileColumns = 256;  // a decoded tile of a panel is 16 KiB
/// Up to here, weights are decoded in registers for each tile of tokens.
inline constexpr int64_t kFewTokens = kTile > 4 ? kTile : 4;

/// Floats of scratch for products in float32: decoded tiles, sums, and the inputs arranged.
NIBBLE_INLINE int64_t dense_scratch(const PackedView* w, int64_t tokens) {
  return kTilePanels * kPanelRows * (kTileColumns + tokens) + tokens * w->columns;
}

/// Fetches what will be read when the present columns are done with. Reading it then, at once,
/// would be waiting for memory.
NIBBLE_INLINE void prefetch(const void* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(p) + i, 0, 2);
}

/// The inputs of a product, `columns` numbers a token, arranged tile by tile: [tile][columns][its
/// tokens].
NIBBLE_INLINE const float* arrange_values(const float* values, int64_t columns, const Work* work,
                                          float* out) {
  const int64_t tokens = work->token_end - work->token_begin;
  const float* x = values + work->token_begin * columns;
  if (tokens == 1) return x;
  if (work->arranged) return out;
  for_tiles(tokens, [&](int64_t t, auto count) {
    interleave(x + t * columns, columns * int64_t(sizeof(float)), decltype(count)::n, columns,
               out + t * columns);
  });
  return out;
}

/// Adds the products of P panels of a tile [P][kTileColumns][16], which are columns from `begin` on
/// of the inputs, to sums [P][tokens][16]; after the last columns they are written out.
template <class Step, int P>
NIBBLE_INLINE void multiply_tile(const PackedView* w, const Work* work, int64_t panel,
                                 const float* tile, const float* x, int64_t begin, int64_t end,
                                 float* sums) {
  const int64_t tokens = work->token_end - work->token_begin, columns = w->columns / Step::kColumns;
  for_tiles(
      tokens, [&](int64_t t, auto count) __attribute__((always_inline)) {
        constexpr int n = decltype(count)::n;
        PanelF32 panels[P];
        for (int p = 0; p < P; ++p) panels[p] = {tile + p * kTileColumns * kPanelRows, kPanelRows};
        F sum[P][n];
        float* const kept = sums + t * kPanelRows;
        load_sums(kept, tokens * kPanelRows, begin == 0, sum);
        dense_tile<n, Step>(panels, end - begin, x + t * columns + begin * n, 1, n, sum);
        put_sums(w, work, panel, work->token_begin + t, kept, tokens * kPanelRows, end == columns,
                 sum);
      });
}

/// Products in float32 with weights that `decode` writes as tiles [steps][16].
template <class Step, class Decode>
NIBBLE_INLINE void multiply_decoded(const PackedView* w, const float* values, const Work* work,
                                    const Decode& decode) {
  const int64_t tokens = work->token_end - work->token_begin, columns = w->columns / Step::kColumns;
  float* tile = static_cast<float*>(work->scratch);
  float* sums = tile + kTilePanels * kPanelRows * kTileColumns;
  const float* x = arrange_values(values, columns, work, sums + kTilePanels * tokens * kPanelRows);
  for (int64_t panel = work->panel_begin, next; panel < work->panel_end; panel = next) {
    next = panel + kTilePanels < work->panel_end ? panel + kTilePanels : work->panel_end;
    for (int64_t begin = 0; begin < columns; begin += kTileColumns) {
      const int64_t end = begin + kTileColumns < columns ? begin + kTileColumns : columns;
      for (int64_t p = panel; p < next; ++p)
        decode(p, begin, end, tile + (p - panel) * kTileColumns * kPanelRows);
      if (next - panel == kTilePanels)
        multiply_tile<Step, kTilePanels>(w, work, panel, tile, x, begin, end, sums);
      else
        multiply_tile<Step, 1>(w, work, panel, tile, x, begin, end, sums);
    }
  }
}

/// Products in float32 with panels that are read where they lie, for few tokens: panel(p) is one.
template <class Step, class PanelAt>
NIBBLE_INLINE void multiply_direct(const PackedView* w, const float* values, const Work* work,
                                   const PanelAt& panel) {
  const int64_t tokens = work->token_end - work->token_begin, columns = w->columns / Step::kColumns;
  const float* x = arrange_values(values, columns, work, static_cast<float*>(work->scratch));
  for (int64_t first = work->panel_begin; first < work->panel_end; first += kPanelGroup) {
    const int64_t rest = work->panel_end - first;
    for_tiles(
        tokens, [&](int64_t t, auto count) __attribute__((always_inline)) {
          constexpr int n = decltype(count)::n;
          for_tiles<kPanelsOf<n>>(
              rest < kPanelGroup ? rest : kPanelGroup, [&](int64_t p, auto panel_count)
                                                           __attribute__((always_inline)) {
                                                             constexpr int k =
                                                                 decltype(panel_count)::n;
                                                             decltype(panel(0)) panels[k];
                                                             F sum[k][n];
                                                             for (int i = 0; i < k; ++i) {
                                                               panels[i] = panel(first + p + i);
                                                               for (int j = 0; j < n; ++j)
                                                                 sum[i][j] = zero();
                                                             }
                                                             dense_tile<n, Step>(panels, columns,
                                                                                 x + t * columns, 1,
                                                                                 n, sum);
                                                             for (int i = 0; i < k; ++i)
                                                               for (int j = 0; j < n; ++j)
                                                                 store_rows(
                                                                     w, work, first + p + i,
                                                                     work->token_begin + t + j,
                                                                     sum[i][j]);
                                                           });
        });
  }
}

}  // namespace nibble::NIBBLE_ISA

#define NIBBLE_TEXT_(x) #x
#define NIBBLE_TEXT(x) NIBBLE_TEXT_(x)
/// The entry point of a kernel file: NIBBLE_KERNEL(f32, type with decode, multiply, scratch_bytes).
#define NIBBLE_KERNEL(name, ...)                                                                   \
  const Kernel& kernel_##name() {                                                                  \
    static constexpr Kernel kernel{NIBBLE_TEXT(NIBBLE_ISA), Packing::name, &__VA_ARGS__::multiply, \
                                   &__VA_ARGS__::decode, &__VA_ARGS__::scratch_bytes};             \
    return kernel;                                                                                 \
  }
