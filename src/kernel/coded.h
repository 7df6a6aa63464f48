// Kernels of the packings that hold codes and scales: w8, w4.
#pragma once

#include "kernel/tile.h"

namespace nibble::NIBBLE_ISA {

/// Reads the codes of 16 rows x 8 columns.
struct Bytes {
  static constexpr int64_t kBytes = 128;
  explicit Bytes(const PackedView*) {}
  NIBBLE_METHOD void read(const uint8_t* at, Codes& c0, Codes& c1) const {
    c0 = load_codes(at), c1 = load_codes(at + 64);
  }
};
struct Halves {
  static constexpr int64_t kBytes = 64;
  explicit Halves(const PackedView*) {}
  NIBBLE_METHOD void read(const uint8_t* at, Codes& c0, Codes& c1) const {
    const Codes both = load_codes(at);
    c0 = low_half(both), c1 = high_half(both);
  }
};
struct NamedHalves {  // the codes name entries of a table
  static constexpr int64_t kBytes = 64;
  const uint8_t* table;
  explicit NamedHalves(const PackedView* w) : table(w->table) {}
  NIBBLE_METHOD void read(const uint8_t* at, Codes& c0, Codes& c1) const {
    const Codes both = load_codes(at);
    c0 = lookup(low_half(both), table), c1 = lookup(high_half(both), table);
  }
};

NIBBLE_INLINE F load_number(const PackedView* w, const void* numbers, int64_t at) {
  if (w->number == PackedView::kF32) return load((const float*)numbers + at);
  const uint16_t* p = (const uint16_t*)numbers + at;
  return w->number == PackedView::kBf16 ? load_bf16(p) : load_fp16(p);
}

/// The effective scale and offset of the 16 rows in the sub-block that column j begins.
struct Scales {
  F scale, offset;
};
NIBBLE_INLINE Scales scales_at(const PackedView* w, int64_t panel, int64_t j) {
  const int64_t block = (panel * (w->columns / w->block) + j / w->block) * kPanelRows;
  const int64_t sub = (panel * (w->columns / w->sub) + j / w->sub) * kPanelRows;
  Scales s{load_number(w, w->d, block), zero()};
  if (w->sub_scale)
    s.scale = mul(mul(s.scale, to_float(load_i8(w->sub_scale + sub))), splat(w->unit));
  if (w->zero) s.offset = mul(splat(-1), mul(s.scale, to_float(load_i8(w->zero + block))));
  if (w->dmin) {
    s.offset = load_number(w, w->dmin, block);
    if (w->sub_min) s.offset = mul(splat(-1), mul(s.offset, to_float(load_u8(w->sub_min + sub))));
  }
  return s;
}

/// Sums of one panel with the 8-bit inputs of T tokens. `scale` and `offset` are those of the panel
/// [columns/kSub][16].
template <int T, int kSub, bool kOffset, class Dot, class Reader>
NIBBLE_INLINE void coded_tile(const PackedView* w, const Reader& reader, const uint8_t* weights,
                              const float* scale, const float* offset, const InputView* input,
                              int64_t token, const typename Dot::Input* x, F* sum) {
  const int64_t columns = w->columns;
  const float* x_scale = input->scales + token * (columns / 32);
  const int32_t* x_sum = input->code_sums + token * (columns / 16);
  for (int t = 0; t < T; ++t) sum[t] = zero();
  for (int64_t s = 0; s < columns / kSub; ++s) {
    Dot dot[T];
    for (int t = 0; t < T; ++t) dot[t].clear();
#pragma GCC unroll 4
    for (int g = 0; g < kSub / 8; ++g, weights += Reader::kBytes) {
      Codes c0, c1;
      reader.read(weights, c0, c1);
#pragma GCC unroll 4
      for (int step = 0; step < Dot::kSteps; ++step) {
        const auto& operand = Dot::operand(step, c0, c1);
        const auto* at = x + s * kSub + g * 8 + step * (8 / Dot::kSteps);
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) dot[t].add(operand, at + t * columns);
      }
    }
    const F d = load(scale + s * kPanelRows);
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      const int32_t* sums = x_sum + t * (columns / 16) + s * (kSub / 16);
      const int32_t code_sum = kSub == 16 ? sums[0] : sums[0] + sums[1];
      const float xs = x_scale[t * (columns / 32) + s * kSub / 32];
      const I total = add_int(dot[t].total(), splat_int((w->bias + Dot::kShift) * code_sum));
      sum[t] = fma(to_float(total), mul(d, splat(xs)), sum[t]);
      if (kOffset) sum[t] = fma(load(offset + s * kPanelRows), splat(xs * float(code_sum)), sum[t]);
    }
  }
}

NIBBLE_INLINE int64_t align64(int64_t n) { return (n + 63) / 64 * 64; }
NIBBLE_INLINE int64_t scale_floats(const PackedView* w) {
  return align64(w->columns / w->sub * kPanelRows);
}

template <int kSub, bool kOffset, class Dot, class Reader>
void multiply_codes(const PackedView* w, const InputView* input, const Work* work) {
  const int64_t tokens = work->token_end - work->token_begin, columns = w->columns;
  float* scale = static_cast<float*>(work->scratch);
  float* offset = scale + scale_floats(w);
  const auto* x = Dot::inputs(input->codes + work->token_begin * columns, tokens * columns,
                              offset + scale_floats(w));
  const Reader reader(w);
  for (int64_t panel = work->panel_begin; panel < work->panel_end; ++panel) {
    for (int64_t j = 0; j < columns; j += kSub) {
      const Scales s = scales_at(w, panel, j);
      store(scale + j / kSub * kPanelRows, s.scale);
      if (kOffset) store(offset + j / kSub * kPanelRows, s.offset);
    }
    const uint8_t* weights = w->weights + panel * (columns / 8) * Reader::kBytes;
    for_tiles(
        tokens, [&](int64_t t, auto count) __attribute__((always_inline)) {
          constexpr int n = decltype(count)::n;
          F sum[n];
          coded_tile<n, kSub, kOffset, Dot>(w, reader, weights, scale, offset, input,
                                            work->token_begin + t, x + t * columns, sum);
          for (int i = 0; i < n; ++i) store_rows(w, work, panel, work->token_begin + t + i, sum[i]);
        });
  }
}

template <class Dot, class Reader>
void multiply_coded(const PackedView* w, const InputView* input, const Work* work) {
  if (w->sub == 16)
    return w->dmin || w->zero ? multiply_codes<16, true, Dot, Reader>(w, input, work)
                              : multiply_codes<16, false, Dot, Reader>(w, input, work);
  return w->dmin || w->zero ? multiply_codes<32, true, Dot, Reader>(w, input, work)
                            : multiply_codes<32, false, Dot, Reader>(w, input, work);
}

/// scale * level + offset, not fused: just what the format decodes to.
template <class Reader>
NIBBLE_INLINE void decode_codes(const PackedView* w, int64_t panel, int64_t begin, int64_t end,
                                float* tile) {
  const Reader reader(w);
  const I bias = splat_int(w->bias);
  const uint8_t* at = w->weights + (panel * w->columns + begin) / 8 * Reader::kBytes;
  for (int64_t j = begin; j < end; j += w->sub) {
    const Scales s = scales_at(w, panel, j);
    for (int64_t k = j; k < j + w->sub; k += 8, at += Reader::kBytes) {
      Codes c[2];
      reader.read(at, c[0], c[1]);
      for (int i = 0; i < 8; ++i) {
        const F level = to_float(add_int(column(c[i / 4], i % 4), bias));
        store(tile + (k - begin + i) * kPanelRows, add(mul(s.scale, level), s.offset));
      }
    }
  }
}

/// What w4 and w8 share: `Kind` has multiply_fast and decode.
template <class Kind>
struct Coded {
  static void multiply(const PackedView* w, const InputView* input, const Work* work) {
    if (input->codes) return Kind::multiply_fast(w, input, work);
    multiply_decoded(
        w, input, work,
        [w](int64_t panel, int64_t begin, int64_t end, float* tile)
            __attribute__((always_inline)) { Kind::decode(w, panel, begin, end, tile); });
  }
  static void decode(const PackedView* w, int64_t panel, int64_t begin, int64_t end, float* tile) {
    Kind::decode(w, panel, begin, end, tile);
  }
  static int64_t scratch_bytes(const PackedView* w, int64_t tokens) {
    const int64_t exact = decoded_scratch(tokens) * int64_t(sizeof(float));
    const int64_t fast = 2 * scale_floats(w) * int64_t(sizeof(float)) +
                         tokens * w->columns * int64_t(sizeof(int16_t));
    return exact > fast ? exact : fast;
  }
};

}  // namespace nibble::NIBBLE_ISA
