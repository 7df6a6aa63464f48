// Kernels of the packings that hold codes and scales: w2 to w8.
#pragma once

#include "kernel/tile.h"

namespace nibble::NIBBLE_ISA {

inline constexpr int64_t kPrefetch = 4096;  // bytes ahead: with one token products wait for memory

/// Group q of 4 columns in a plane of kBits bits, its bits moved up to bit `to`.
template <int kBits>
NIBBLE_INLINE Codes plane_group(const uint8_t* plane, int q, int to) {
  constexpr int kGroups = 8 / kBits;
  const Codes piece = load_codes(plane + q / kGroups * 64);
  if constexpr (kBits == 8) return piece;
  return move_bits(piece, to - q % kGroups * kBits, ((1 << kBits) - 1) << to);
}

/// Reads the codes of 16 rows x 8 columns, the g-th of a unit.
template <Packing kPacking>
struct Reader {
  static constexpr bool kDear =  // to read again and again
      kExpandsPanels && (planes_of(kPacking).high > 0 || planes_of(kPacking).low < 4);
  static constexpr Planes kPlanes = planes_of(kPacking);
  static constexpr int64_t kUnitBytes = 64 * (kPlanes.low + kPlanes.high);
  explicit Reader(const PackedView*) {}
  NIBBLE_METHOD void read(const uint8_t* unit, int g, Codes& c0, Codes& c1) const {
    c0 = group(unit, 2 * g), c1 = group(unit, 2 * g + 1);
  }
  NIBBLE_METHOD static Codes group(const uint8_t* unit, int q) {
    const Codes low = plane_group<kPlanes.low>(unit, q, 0);
    if constexpr (kPlanes.high == 0)
      return low;
    else
      return either(low, plane_group<kPlanes.high>(unit + 64 * kPlanes.low, q, kPlanes.low));
  }
};

/// The same where codes name entries of a table.
template <Packing kPacking>
struct NamedReader : Reader<kPacking> {
  static constexpr bool kDear = kExpandsPanels;
  const uint8_t* table;
  explicit NamedReader(const PackedView* w) : Reader<kPacking>(w), table(w->table) {}
  NIBBLE_METHOD void read(const uint8_t* unit, int g, Codes& c0, Codes& c1) const {
    Reader<kPacking>::read(unit, g, c0, c1);
    c0 = lookup(c0, table), c1 = lookup(c1, table);
  }
};

using Bytes = Reader<Packing::w8>;

/// A panel as w8 has it.
template <class From>
NIBBLE_INLINE void expand(const From& reader, const uint8_t* weights, int64_t columns,
                          uint8_t* bytes) {
  for (int64_t unit = 0; unit < columns / kUnitColumns; ++unit, weights += From::kUnitBytes)
#pragma GCC unroll 4
    for (int g = 0; g < kUnitColumns / 8; ++g, bytes += 128) {
      Codes c0, c1;
      reader.read(weights, g, c0, c1);
      store_bytes(bytes, c0), store_bytes(bytes + 64, c1);
    }
}

NIBBLE_INLINE F load_number(const PackedView* w, const void* numbers, int64_t at) {
  if (w->number == PackedView::kF32) return load((const float*)numbers + at);
  const uint16_t* p = (const uint16_t*)numbers + at;
  return w->number == PackedView::kBf16 ? load_bf16(p) : load_fp16(p);
}

/// fn(sub-block, scale, offset): what is effective for the 16 rows in sub-blocks [begin, end) of a
/// panel.
template <class Fn>
NIBBLE_INLINE void for_scales(const PackedView* w, int64_t panel, int64_t begin, int64_t end,
                              const Fn& fn) {
  const int64_t subs = w->block / w->sub, blocks = w->columns / w->block;
  const int64_t first = panel * blocks * kPanelRows;
  int64_t b = begin / subs;
  for (int64_t s = begin; s < end; ++b) {
    const F d = load_number(w, w->d, first + b * kPanelRows);
    const F zero_point = w->zero ? to_float(load_i8(w->zero + first + b * kPanelRows)) : zero();
    const F dmin = w->dmin ? load_number(w, w->dmin, first + b * kPanelRows) : zero();
    const int64_t block_end = (b + 1) * subs < end ? (b + 1) * subs : end;
    for (; s < block_end; ++s) {
      const int64_t at = first * subs + s * kPanelRows;
      F scale = d, offset = dmin;
      if (w->sub_scale) scale = mul(mul(d, to_float(load_i8(w->sub_scale + at))), splat(w->unit));
      if (w->zero) offset = mul(splat(-1), mul(scale, zero_point));
      if (w->sub_min) offset = mul(splat(-1), mul(dmin, to_float(load_u8(w->sub_min + at))));
      fn(s, scale, offset);
    }
  }
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
  constexpr int kSubs = kUnitColumns / kSub;
  for (int t = 0; t < T; ++t) sum[t] = zero();
  for (int64_t unit = 0; unit < columns / kUnitColumns; ++unit, weights += Reader::kUnitBytes) {
    if constexpr (T <= 2)
      for (int64_t i = 0; i < Reader::kUnitBytes; i += 64)
        __builtin_prefetch(weights + kPrefetch + i);
#pragma GCC unroll 2
    for (int h = 0; h < kSubs; ++h) {
      const int64_t s = unit * kSubs + h;
      Dot dot[T];
      for (int t = 0; t < T; ++t) dot[t].clear();
#pragma GCC unroll 4
      for (int g = 0; g < kSub / 8; ++g) {
        Codes c0, c1;
        reader.read(weights, h * (kSub / 8) + g, c0, c1);
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
        const float xs = x_scale[t * (columns / 32) + unit];
        const I total = add_int(dot[t].total(), splat_int((w->bias + Dot::kShift) * code_sum));
        sum[t] = fma(to_float(total), mul(d, splat(xs)), sum[t]);
        if (kOffset)
          sum[t] = fma(load(offset + s * kPanelRows), splat(xs * float(code_sum)), sum[t]);
      }
    }
  }
}

NIBBLE_INLINE int64_t align64(int64_t n) { return (n + 63) / 64 * 64; }
NIBBLE_INLINE int64_t scale_floats(const PackedView* w) {
  return align64(w->columns / w->sub * kPanelRows);
}
/// Of inputs that are widened (Dot::inputs).
NIBBLE_INLINE int64_t input_bytes(const PackedView* w, int64_t tokens) {
  return align64(tokens * w->columns * int64_t(sizeof(int16_t)));
}

/// From here on it pays to read a panel once, into bytes, and not for every tile of tokens.
template <class Dot>
inline constexpr int64_t kManyTokens = 3 * Dot::kTokens;

template <int kSub, bool kOffset, class Dot, class Reader>
void multiply_codes(const PackedView* w, const InputView* input, const Work* work) {
  const int64_t tokens = work->token_end - work->token_begin, columns = w->columns;
  float* scale = static_cast<float*>(work->scratch);
  float* offset = scale + scale_floats(w);
  const auto* x = Dot::inputs(input->codes + work->token_begin * columns, tokens * columns,
                              offset + scale_floats(w));
  const Reader reader(w);
  for (int64_t panel = work->panel_begin; panel < work->panel_end; ++panel) {
    for_scales(
        w, panel, 0, columns / kSub, [&](int64_t s, F d, F dmin) __attribute__((always_inline)) {
          store(scale + s * kPanelRows, d);
          if (kOffset) store(offset + s * kPanelRows, dmin);
        });
    const uint8_t* weights = w->weights + panel * (columns / kUnitColumns) * Reader::kUnitBytes;
    const auto tiles = [&](const auto& from, const uint8_t* codes) __attribute__((always_inline)) {
      for_tiles<Dot::kTokens>(
          tokens, [&](int64_t t, auto count) __attribute__((always_inline)) {
            constexpr int n = decltype(count)::n;
            F sum[n];
            coded_tile<n, kSub, kOffset, Dot>(w, from, codes, scale, offset, input,
                                              work->token_begin + t, x + t * columns, sum);
            for (int i = 0; i < n; ++i)
              store_rows(w, work, panel, work->token_begin + t + i, sum[i]);
          });
    };
    if constexpr (Reader::kDear)
      if (tokens >= kManyTokens<Dot>) {
        uint8_t* bytes = (uint8_t*)(offset + scale_floats(w)) + input_bytes(w, tokens);
        expand(reader, weights, columns, bytes);
        tiles(Bytes(w), bytes);
        continue;
      }
    tiles(reader, weights);
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
  const uint8_t* panel_codes = w->weights + panel * w->columns / kUnitColumns * Reader::kUnitBytes;
  for_scales(
      w, panel, begin / w->sub,
      end / w->sub, [&](int64_t s, F scale, F offset) __attribute__((always_inline)) {
        for (int64_t k = s * w->sub; k < (s + 1) * w->sub; k += 8) {
          Codes c[2];
          reader.read(panel_codes + k / kUnitColumns * Reader::kUnitBytes,
                      int(k % kUnitColumns / 8), c[0], c[1]);
          for (int i = 0; i < 8; ++i) {
            const F level = to_float(add_int(column(c[i / 4], i % 4), bias));
            store(tile + (k - begin + i) * kPanelRows, add(mul(scale, level), offset));
          }
        }
      });
}

/// A packing with the products that its codes allow.
template <Packing kPacking>
struct Coded {
  static constexpr int kBits = planes_of(kPacking).low + planes_of(kPacking).high;
  static constexpr bool kNamed = kBits <= 4;  // there may be a table, of 16 entries
  using Plain = Reader<kPacking>;
  using Named = NamedReader<kPacking>;

  static void multiply(const PackedView* w, const InputView* input, const Work* work) {
    if (input->codes) return multiply_fast(w, input, work);
    multiply_decoded(
        w, input, work,
        [w](int64_t panel, int64_t begin, int64_t end, float* tile)
            __attribute__((always_inline)) { decode(w, panel, begin, end, tile); });
  }
  static void decode(const PackedView* w, int64_t panel, int64_t begin, int64_t end, float* tile) {
    if constexpr (kNamed)
      if (w->table) return decode_codes<Named>(w, panel, begin, end, tile);
    decode_codes<Plain>(w, panel, begin, end, tile);
  }
  static int64_t scratch_bytes(const PackedView* w, int64_t tokens) {
    const int64_t exact = decoded_scratch(tokens) * int64_t(sizeof(float));
    const int64_t fast = 2 * scale_floats(w) * int64_t(sizeof(float)) + input_bytes(w, tokens) +
                         w->columns * kPanelRows;
    return exact > fast ? exact : fast;
  }

 private:
  static void multiply_fast(const PackedView* w, const InputView* input, const Work* work) {
    if constexpr (kNamed)
      if (w->table) return multiply_named(w, input, work);
    if constexpr (kBits <= 4)
      multiply_coded<DotSmall, Plain>(w, input, work);
    else if constexpr (kBits <= 6)
      multiply_coded<DotMedium, Plain>(w, input, work);
    else
      multiply_coded<DotWide, Plain>(w, input, work);
  }
  static void multiply_named(const PackedView* w, const InputView* input, const Work* work) {
    if (w->max_code <= 63) return multiply_coded<DotMedium, Named>(w, input, work);
    if (w->max_code <= 127) return multiply_coded<DotLarge, Named>(w, input, work);
    multiply_coded<DotWide, Named>(w, input, work);
  }
};

}  // namespace nibble::NIBBLE_ISA
