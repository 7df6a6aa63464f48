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

/// dot[p][t] += level * input over sub-block h of a unit of P panels, for T tokens.
template <int P, int T, int kSub, class Dot, class Reader>
NIBBLE_INLINE void dot_sub(const Reader& reader, const uint8_t* const (&units)[P], int h,
                           const uint8_t* words, Dot (&dot)[P][T]) {
  constexpr int kWords = 2 * int(sizeof(typename Dot::Input));  // of 8 columns
#pragma GCC unroll 16
  for (int g = 0; g < kSub / 8; ++g) {
    Codes c0[P], c1[P];
    for (int p = 0; p < P; ++p) reader.read(units[p], h * (kSub / 8) + g, c0[p], c1[p]);
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

/// block_sum[t] -= dmin * minimum * sum of inputs, of all sub-blocks of the block whose dmin is at
/// `at`; `sums` has two of their sums in a word.
template <int T>
NIBBLE_INLINE void subtract_mins(const PackedView* w, int64_t at, const int32_t* sums,
                                 F (&block_sum)[T]) {
  const int64_t pairs = w->block / w->sub / 2;
  const uint8_t* mins = w->sub_min + at * 2 * pairs;
  I total[T];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) total[t] = splat_int(0);
  for (int64_t i = 0; i < pairs; ++i) {
    const I pair = load_pairs(mins + i * 2 * kPanelRows);
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) total[t] = dot_pairs(total[t], pair, sums[i * T + t]);
  }
  const F less = mul(splat(-1), load_number(w, w->dmin, at));
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) block_sum[t] = fma(to_float(total[t]), less, block_sum[t]);
}

/// sum[t] += d * scale of inputs * (block_sum[t] - offset), for block `b` of a panel.
template <int T, int kSub, Scaling kScaling, bool kOffset>
NIBBLE_INLINE void add_block(const PackedView* w, int64_t first, int64_t b, const TileInputs& in,
                             F (&block_sum)[T], F (&sum)[T]) {
  const int64_t at = first + b * kPanelRows;
  const float* scales = in.scales + (kSub == 16 && kScaling == Scaling::block ? b / 2 : b) * T;
  const int32_t* sums = in.sums + b * T;
  if (kOffset && w->zero) {
    const I zero_point = load_i8(w->zero + at);
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t)
      block_sum[t] = add(block_sum[t], to_float(mul_int(zero_point, splat_int(sums[t]))));
  }
  F d = load_number(w, w->d, at);
  if (kScaling != Scaling::block) d = mul(d, splat(w->unit));
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) block_sum[t] = mul(block_sum[t], d);
  const bool mins = kOffset && kScaling != Scaling::block && w->sub_min;
  if (mins) subtract_mins<T>(w, at, in.sums + b * (w->block / w->sub / 2) * T, block_sum);
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) sum[t] = fma(block_sum[t], splat(scales[t]), sum[t]);
  if (!kOffset || w->zero || mins) return;
  const F dmin = load_number(w, w->dmin, at);
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
    float product;
    memcpy(&product, sums + t, sizeof product);
    sum[t] = fma(dmin, splat(product), sum[t]);
  }
}

/// sum[p] += the product of units [begin, end) of panel + p, whole blocks whose codes are at
/// codes[p], with the 8-bit inputs of T tokens. Sums of integers, up to where a scale begins, are
/// exact.
template <int P, int T, int kSub, Scaling kScaling, bool kOffset, class Dot, class Reader>
NIBBLE_INLINE void coded_tile(const PackedView* w, int64_t panel, const Reader& reader,
                              const uint8_t* (&codes)[P], int64_t begin, int64_t end,
                              const TileInputs& in, F (&sum)[P][T]) {
  constexpr int kSubs = kUnitColumns / kSub;
  constexpr int64_t kWordBytes = kSub * int64_t(sizeof(typename Dot::Input)) * T;
  constexpr bool kWhole = kScaling == Scaling::whole;
  const int64_t blocks = w->columns / w->block * kPanelRows;  // of a panel in d
  const int64_t first = panel * blocks;
  const int64_t units = kScaling == Scaling::block ? 1 : w->block / kUnitColumns;
  const int64_t scales = blocks * (w->block / kSub);  // of a panel in sub_scale
  const int8_t* sub_scale = kScaling == Scaling::sub_blocks
                                ? w->sub_scale + panel * scales + begin * kSubs * kPanelRows
                                : nullptr;
  const uint8_t* words = in.words + begin * kSubs * kWordBytes;
  const int32_t* lacks = in.lacks + (kWhole ? begin / units : begin * kSubs) * T;
  for (int64_t unit = begin; unit < end;) {
    const int64_t block = unit / units;
    F block_sum[P][T];
    Dot dot[P][T];
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        block_sum[p][t] = zero();
        if constexpr (kWhole) dot[p][t].start(lacks[t]);
      }
    for (int64_t i = 0; i < units; ++i, ++unit) {
      if constexpr (P == 1 && T <= 4)
        for (int64_t k = 0; k < Reader::kUnitBytes; k += 64)
          __builtin_prefetch(codes[0] + kPrefetch + k);
#pragma GCC unroll 2
      for (int h = 0; h < kSubs; ++h, words += kWordBytes) {
        if constexpr (!kWhole)
#pragma GCC unroll 16
          for (int t = 0; t < T; ++t)
            for (int p = 0; p < P; ++p) dot[p][t].start(lacks[t]);
        dot_sub<P, T, kSub>(reader, codes, h, words, dot);
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
            const F total = to_float(dot[p][t].total(lacks[t]));
            block_sum[p][t] =
                kScaling == Scaling::block ? total : fma(total, scale, block_sum[p][t]);
          }
          if constexpr (kScaling == Scaling::block)
            add_block<T, kSub, kScaling, kOffset>(w, first + p * blocks, unit * kSubs + h, in,
                                                  block_sum[p], sum[p]);
        }
        lacks += T;
        if constexpr (kScaling == Scaling::sub_blocks) sub_scale += kPanelRows;
      }
      for (const uint8_t*& each : codes) each += Reader::kUnitBytes;
    }
    if constexpr (kWhole) {
      for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) block_sum[p][t] = to_float(dot[p][t].total(lacks[t]));
      lacks += T;
    }
    if constexpr (kScaling != Scaling::block)
      for (int p = 0; p < P; ++p)
        add_block<T, kSub, kScaling, kOffset>(w, first + p * blocks, block, in, block_sum[p],
                                              sum[p]);
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
