// Sums of products of codes with 8-bit inputs, in integers up to the end of a block.
#pragma once

#include "kernel/arrange.h"

namespace nibble::NIBBLE_ISA {

/// Reads the codes of 16 rows x 8 columns, the g-th of a unit.
template <Packing kPacking>
struct Reader {
  static constexpr Planes kPlanes = planes_of(kPacking);
  static constexpr int64_t kUnitBytes = 64 * (kPlanes.low + kPlanes.high);
  explicit Reader(const PackedView*) {}
  NIBBLE_METHOD void read(const uint8_t* unit, int g, Codes& c0, Codes& c1) const {
    c0 = group(unit, 2 * g), c1 = group(unit, 2 * g + 1);
  }
  /// Group q of 4 columns.
  NIBBLE_METHOD static Codes group(const uint8_t* unit, int q) {
    constexpr int kLow = kPlanes.low, kHigh = kPlanes.high, kInLow = 8 / kLow;
    const Codes piece = load_codes(unit + q / kInLow * 64);
    if constexpr (kLow == 8) return piece;
    const Codes low = move_bits(piece, -(q % kInLow * kLow), (1 << kLow) - 1);
    if constexpr (kHigh == 0) {
      return low;
    } else {
      constexpr int kInHigh = 8 / kHigh;
      return merge_bits(low, load_codes(unit + 64 * kLow + q / kInHigh * 64),
                        kLow - q % kInHigh * kHigh, ((1 << kHigh) - 1) << kLow);
    }
  }
};

using Bytes = Reader<Packing::w8>;

NIBBLE_INLINE F load_number(const PackedView* w, const void* numbers, int64_t at) {
  if (w->number == PackedView::kF32) return load((const float*)numbers + at);
  const uint16_t* p = (const uint16_t*)numbers + at;
  return w->number == PackedView::kBf16 ? load_bf16(p) : load_fp16(p);
}

/// dot[p][t] += level * input over sub-block h of a unit of P panels, `stride` bytes from one to
/// the next, for T tokens.
template <int P, int T, int kSub, class Dot, class Reader>
NIBBLE_INLINE void dot_sub(const Reader& reader, const uint8_t* unit, int64_t stride, int h,
                           const uint8_t* words, Dot (&dot)[P][T]) {
  constexpr int kWords = 2 * int(sizeof(typename Dot::Input));  // of 8 columns
#pragma GCC unroll 16
  for (int g = 0; g < kSub / 8; ++g) {
    Codes c0[P], c1[P];
    for (int p = 0; p < P; ++p) reader.read(unit + p * stride, h * (kSub / 8) + g, c0[p], c1[p]);
#pragma GCC unroll 16
    for (int step = 0; step < Dot::kSteps; ++step) {
      decltype(Dot::operand(0, c0[0], c1[0])) operand[P];
      for (int p = 0; p < P; ++p) operand[p] = Dot::operand(step, c0[p], c1[p]);
      const uint8_t* at = words + (g * kWords + step * (kWords / Dot::kSteps)) * 4 * T;
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t)
        for (int p = 0; p < P; ++p) dot[p][t].add(operand[p], at + 4 * t, 4 * T);
    }
  }
}

/// Whole blocks of columns, which the tiles of all tokens go through.
struct BlockSpan {
  int64_t begin, end;  // units
  int64_t units;       // of a block
  int64_t first;       // block, that of `begin`
  int64_t stride;      // from the d of a panel to that of the next
  int64_t pairs;       // of sub-blocks of a block
  BlockSpan(const PackedView* w, int64_t begin_unit, int64_t end_unit)
      : begin(begin_unit),
        end(end_unit),
        units(w->block < kUnitColumns ? 1 : w->block / kUnitColumns),
        first(begin / units),
        stride(w->columns / w->block * kPanelRows),
        pairs(w->block / w->sub / 2) {}
};

/// block_sum[p][t] -= dmin * minimum * sum of inputs, of all sub-blocks of block `b`, whose dmin
/// are at `at` and every stride behind; `sums` has two of the inputs' sums in a word.
template <int P, int T>
NIBBLE_INLINE void subtract_mins(const PackedView* w, const BlockSpan& span, int64_t at,
                                 const int32_t* sums, F (&block_sum)[P][T]) {
  I total[P][T];
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) total[p][t] = splat_int(0);
  const uint8_t* mins = w->sub_min + at * 2 * span.pairs;
  for (int64_t i = 0; i < span.pairs; ++i, mins += 2 * kPanelRows, sums += T) {
    I pair[P];
    for (int p = 0; p < P; ++p) pair[p] = load_pairs(mins + p * span.stride * 2 * span.pairs);
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t)
      for (int p = 0; p < P; ++p) total[p][t] = dot_pairs(total[p][t], pair[p], sums[t]);
  }
  for (int p = 0; p < P; ++p) {
    const F less = mul(splat(-1), load_number(w, w->dmin, at + p * span.stride));
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) block_sum[p][t] = fma(to_float(total[p][t]), less, block_sum[p][t]);
  }
}

/// block_sum[t] = d * what it is above kFirstSum, rounded once: kFirstSum has two bits, so where d
/// has 16 their product is exact.
template <int T>
NIBBLE_INLINE void scale_from_first(const PackedView* w, F d, F (&block_sum)[T]) {
  if (w->number == PackedView::kF32) {
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) block_sum[t] = mul(add(block_sum[t], splat(-kFirstSum)), d);
    return;
  }
  const F less = mul(d, splat(-kFirstSum));
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) block_sum[t] = fma(block_sum[t], d, less);
}

/// sum[p][t] += d * scale of inputs * (block_sum[p][t] - offset), for block `b` of panels whose d
/// are at `at` and every stride behind.
template <int P, int T, int kSub, Scaling kScaling, bool kOffset>
NIBBLE_INLINE void add_block(const PackedView* w, const BlockSpan& span, int64_t at, int64_t b,
                             const TileInputs& in, F (&block_sum)[P][T], F (&sum)[P][T]) {
  const int64_t stride = span.stride;
  const float* scales = in.scales + (kSub == 16 && kScaling == Scaling::block ? b / 2 : b) * T;
  const int32_t* sums = in.sums + b * T;
  if (kOffset && w->zero)
    for (int p = 0; p < P; ++p) {
      const I zero_point = load_i8(w->zero + at + p * stride);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t)
        block_sum[p][t] = add(block_sum[p][t], to_float(mul_int(zero_point, splat_int(sums[t]))));
    }
  for (int p = 0; p < P; ++p) {
    const F d = load_number(w, w->d, at + p * stride);
    if constexpr (kScaling == Scaling::block)
      scale_from_first(w, d, block_sum[p]);
    else
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) block_sum[p][t] = mul(block_sum[p][t], mul(d, splat(w->unit)));
  }
  const bool mins = kOffset && kScaling != Scaling::block && w->sub_min;
  if (mins) subtract_mins<P, T>(w, span, at, in.sums + b * span.pairs * T, block_sum);
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t)
    for (int p = 0; p < P; ++p) sum[p][t] = fma(block_sum[p][t], splat(scales[t]), sum[p][t]);
  if (!kOffset || w->zero || mins) return;
  for (int p = 0; p < P; ++p) {
    const F dmin = load_number(w, w->dmin, at + p * stride);
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      float product;
      memcpy(&product, sums + t, sizeof product);
      sum[p][t] = fma(dmin, splat(product), sum[p][t]);
    }
  }
}

/// sum[p] += the product of the blocks of panel + p, whose codes are at codes + p * stride, with
/// the 8-bit inputs of T tokens. Sums of integers, up to where a scale begins, are exact.
template <int P, int T, int kSub, Scaling kScaling, bool kOffset, class Dot, class Reader>
NIBBLE_INLINE void coded_tile(const PackedView* w, const BlockSpan& span, int64_t panel,
                              const Reader& reader, const uint8_t* codes, int64_t stride,
                              const TileInputs& in, F (&sum)[P][T]) {
  constexpr int kSubs = kUnitColumns / kSub;
  constexpr int64_t kWordBytes = kSub * int64_t(sizeof(typename Dot::Input)) * T;
  constexpr bool kWhole = kScaling == Scaling::whole, kBlock = kScaling == Scaling::block;
  const int64_t first = panel * span.stride;                // in d
  const int64_t scales = span.stride * span.units * kSubs;  // of a panel in sub_scale
  const int8_t* sub_scale = kScaling == Scaling::sub_blocks
                                ? w->sub_scale + panel * scales + span.begin * kSubs * kPanelRows
                                : nullptr;
  const uint8_t* words = in.words + span.begin * kSubs * kWordBytes;
  const int32_t* lacks = in.lacks + (kWhole ? span.first : span.begin * kSubs) * T;
  int64_t block = span.first;
  for (int64_t unit = span.begin; unit < span.end; ++block) {
    F block_sum[P][T];
    Dot dot[P][T];
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        block_sum[p][t] = zero();
        if constexpr (kWhole) dot[p][t].start(lacks[t]);
      }
    const int64_t block_end = unit + (kBlock ? 1 : span.units);
    do {
#pragma GCC unroll 2
      for (int h = 0; h < kSubs; ++h, words += kWordBytes) {
        if constexpr (!kWhole)
#pragma GCC unroll 16
          for (int t = 0; t < T; ++t)
            for (int p = 0; p < P; ++p) dot[p][t].start(lacks[t]);
        dot_sub<P, T, kSub>(reader, codes, stride, h, words, dot);
        if constexpr (kWhole) {
          for (auto& panel_dots : dot)
            for (Dot& each : panel_dots) each.settle();
          continue;
        }
        for (int p = 0; p < P; ++p) {
          F scale = zero();
          if constexpr (kScaling == Scaling::sub_blocks)
            scale = to_float(load_i8(sub_scale + p * scales));
#pragma GCC unroll 16
          for (int t = 0; t < T; ++t) {
            const I total = dot[p][t].total(lacks[t]);
            block_sum[p][t] =
                kBlock ? as_float(total) : fma(to_float(total), scale, block_sum[p][t]);
          }
        }
        if constexpr (kBlock)
          add_block<P, T, kSub, kScaling, kOffset>(w, span, first + (unit * kSubs + h) * kPanelRows,
                                                   unit * kSubs + h, in, block_sum, sum);
        lacks += T;
        if constexpr (kScaling == Scaling::sub_blocks) sub_scale += kPanelRows;
      }
      codes += Reader::kUnitBytes;
    } while (++unit < block_end);
    if constexpr (kWhole) {
      for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) block_sum[p][t] = to_float(dot[p][t].total(lacks[t]));
      lacks += T;
    }
    if constexpr (!kBlock)
      add_block<P, T, kSub, kScaling, kOffset>(w, span, first + block * kPanelRows, block, in,
                                               block_sum, sum);
  }
}

template <bool kValue>
struct Flag {
  static constexpr bool value = kValue;
};
template <Scaling kValue>
struct ScalingIs {
  static constexpr Scaling value = kValue;
};
/// Calls fn(Count<sub>, ScalingIs<scaling>, Flag<offset>) with what `w` has.
template <class Fn>
NIBBLE_INLINE auto for_scaling(const PackedView* w, const Fn& fn) {
  using Block = ScalingIs<Scaling::block>;
  using SubBlocks = ScalingIs<Scaling::sub_blocks>;
  using Whole = ScalingIs<Scaling::whole>;
  const bool offset = w->dmin || w->zero;
  if (w->block == 16) return fn(Count<16>(), Block(), Flag<false>());  // none with an offset
  if (w->block == 32)
    return offset ? fn(Count<32>(), Block(), Flag<true>())
                  : fn(Count<32>(), Block(), Flag<false>());
  if (!w->sub_scale)
    return offset ? fn(Count<32>(), Whole(), Flag<true>())
                  : fn(Count<32>(), Whole(), Flag<false>());
  if (w->sub == 16)
    return offset ? fn(Count<16>(), SubBlocks(), Flag<true>())
                  : fn(Count<16>(), SubBlocks(), Flag<false>());
  return offset ? fn(Count<32>(), SubBlocks(), Flag<true>())
                : fn(Count<32>(), SubBlocks(), Flag<false>());
}

}  // namespace nibble::NIBBLE_ISA
