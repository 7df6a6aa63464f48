// A key-value cache of 8-bit or 4-bit codes: 32 dimensions of a position share an fp16 scale.
//
// Keys and values are turned by a Hadamard matrix first, and queries with them: products of queries
// and keys stay what they were, while outliers of single dimensions spread over all of a block.
// What attention makes of turned values is turned back at its end.
//
// Queries are rounded to 8 bits, so that their products with keys are those of small integers.
//
// Codes lie in units of 16 rows x 32 columns as in a packed matrix (kernel.h). The keys of a page
// are two panels of 16 positions, [16 positions][dimension / 32] units, then their scales,
// [panel][dimension / 32][16]. Its values are panels of 16 dimensions, a unit of all 32 positions
// each, then their scales, [dimension / 32][32].
#pragma once

#include <math.h>

#include "kernel/ops.h"
#include "kernel/sums.h"

namespace nibble::NIBBLE_ISA {
namespace {

// Of transformer.cc, which includes this.
void f32_to_fp16(const float* in, uint16_t* out, int64_t n);
void quantize_input(const float* x, int64_t n, int64_t block, int8_t* codes, float* scales,
                    int32_t* code_sums);

constexpr int64_t kCacheBlock = kUnitColumns;
static_assert(kPagePositions == kUnitColumns);

inline int64_t cache_blocks(int64_t dim) { return (dim + kCacheBlock - 1) / kCacheBlock; }

constexpr int64_t kTurned = 256;  // dimensions that are turned together at most

/// The dimensions of a head that are turned together: the largest power of two that divides it.
inline int64_t turn_size(int64_t dim) {
  const int64_t size = dim & -dim;
  return size < kTurned ? size : kTurned;
}

/// Each `size` of n values times Sylvester's matrix, orthonormal and its own inverse.
inline void turn(float* x, int64_t n, int64_t size) {
  for (int64_t half = 1; half < size; half *= 2)
    for (int64_t i = 0; i < n; i += 2 * half)
      for (int64_t k = i; k < i + half; ++k) {
        const float a = x[k], b = x[k + half];
        x[k] = a + b, x[k + half] = a - b;
      }
  const float norm = 1.0f / sqrtf(float(size));
  for (int64_t i = 0; i < n; ++i) x[i] *= norm;
}

/// Levels -8..7 of blocks of 32, scales as fp16 holds them: the extreme of a block is level -8.
inline void quantize_small(const float* x, int64_t n, int8_t* levels, uint16_t* scales) {
  for (int64_t begin = 0; begin < n; begin += kCacheBlock) {
    float extreme = 0, poison = 0;  // poison: 0 if all are finite, else NaN
    for (int64_t i = begin; i < begin + kCacheBlock; ++i) {
      if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
      poison += x[i] * 0.0f;
    }
    float scale[16];
    uint16_t half[16];
    store_fp16(half, splat(extreme / -8 + poison));
    store(scale, load_fp16(half));
    scales[begin / kCacheBlock] = half[0];
    const F factor = splat(fabsf(scale[0]) > 0 ? 1 / scale[0] : 0.0f);
    for (int64_t i = begin; i < begin + kCacheBlock; i += 16)
      store_codes(levels + i, round_int(max(splat(-8), min(splat(7), mul(load(x + i), factor)))));
  }
}

/// Queries of one head, turned and rounded to 8 bits.
template <class Input>
struct CodedQueries {
  const Input* codes;   // [rows][width]
  const float* scales;  // [rows][width / 32]
  const int32_t* sums;  // [rows][width / 16] of codes
  int64_t width;        // dimensions, in whole blocks
};

template <int kBits>
struct CacheDot {
  using Type = DotSmall;
};
template <>
struct CacheDot<8> {
  using Type = DotWide;
};

/// Codes of kBits bits, which stand for levels from -kBias on.
template <int kBits>
struct CodedCache {
  static constexpr int kBias = 1 << (kBits - 1);
  static constexpr int64_t kUnitBytes = 64 * kBits;
  using Units = Reader<kBits == 8 ? Packing::w8 : Packing::w4>;
  using Dot = typename CacheDot<kBits>::Type;
  using Queries = CodedQueries<typename Dot::Input>;

  static void put(uint8_t* unit, int64_t row, int64_t column, int level) {
    constexpr int kGroups = 8 / kBits, kMask = (1 << kBits) - 1;
    const int64_t group = column / 4;
    const int shift = int(group % kGroups) * kBits;
    uint8_t* byte = unit + group / kGroups * 64 + row * 4 + column % 4;
    *byte = uint8_t((*byte & ~(kMask << shift)) | ((level + kBias) & kMask) << shift);
  }

  static void quantize(const float* x, int64_t n, int8_t* levels, uint16_t* scales) {
    if constexpr (kBits == 4) return quantize_small(x, n, levels, scales);
    float wide[kTurned / kCacheBlock];
    int32_t sums[kTurned / 16];
    quantize_input(x, n, kCacheBlock, levels, wide, sums);
    f32_to_fp16(wide, scales, n / kCacheBlock);
  }

  static void keep(const float* key, const float* value, int dim, void* keys, void* values,
                   int64_t position) {
    const int64_t blocks = cache_blocks(dim), size = turn_size(dim);
    const int64_t step = size < kCacheBlock ? kCacheBlock : size;
    auto* key_units = static_cast<uint8_t*>(keys) + position / 16 * blocks * kUnitBytes;
    auto* key_scales =
        reinterpret_cast<uint16_t*>(static_cast<uint8_t*>(keys) + 2 * blocks * kUnitBytes) +
        position / 16 * blocks * 16 + position % 16;
    auto* value_units = static_cast<uint8_t*>(values);
    auto* value_scales =
        reinterpret_cast<uint16_t*>(value_units + 2 * blocks * kUnitBytes) + position;
    float x[kTurned];
    int8_t levels[kTurned];
    uint16_t scales[kTurned / kCacheBlock];
    for (int64_t first = 0; first < dim; first += step) {
      const int64_t n = dim - first < step ? dim - first : step;
      const int64_t padded = cache_blocks(n) * kCacheBlock;
      const auto prepare = [&](const float* from) {
        memcpy(x, from + first, size_t(n) * sizeof(float));
        memset(x + n, 0, size_t(padded - n) * sizeof(float));
        turn(x, n, size);
        quantize(x, padded, levels, scales);
      };
      prepare(key);
      for (int64_t d = 0; d < padded; ++d)
        put(key_units + (first + d) / 32 * kUnitBytes, position % 16, d % 32, levels[d]);
      for (int64_t b = 0; b < padded / 32; ++b) key_scales[(first / 32 + b) * 16] = scales[b];
      prepare(value);
      for (int64_t d = 0; d < padded; ++d)
        put(value_units + (first + d) / 16 * kUnitBytes, d % 16, position, levels[d]);
      for (int64_t b = 0; b < padded / 32; ++b) value_scales[(first / 32 + b) * 32] = scales[b];
    }
  }

  /// Products of T queries from `row` on with the keys of 16 positions.
  template <int T>
  NIBBLE_METHOD static void score(const uint8_t* keys, int64_t panel, const Queries& q, int64_t row,
                                  F (&sum)[T]) {
    const int64_t blocks = q.width / kCacheBlock;
    const auto* scales =
        reinterpret_cast<const uint16_t*>(keys + 2 * blocks * kUnitBytes) + panel * blocks * 16;
    const uint8_t* unit = keys + panel * blocks * kUnitBytes;
    const Units reader(nullptr);
    for (int t = 0; t < T; ++t) sum[t] = zero();
    for (int64_t b = 0; b < blocks; ++b, unit += kUnitBytes) {
      const auto* x = q.codes + row * q.width + b * kCacheBlock;
      Dot dot[T];
      int32_t lacks[T];
      for (int t = 0; t < T; ++t) {
        const int32_t* sums = q.sums + ((row + t) * q.width + b * kCacheBlock) / 16;
        lacks[t] = (Dot::kShift - kBias) * (sums[0] + sums[1]);
        dot[t].start(lacks[t]);
      }
#pragma GCC unroll 4
      for (int g = 0; g < kCacheBlock / 8; ++g) {
        Codes c0, c1;
        reader.read(unit, g, c0, c1);
#pragma GCC unroll 4
        for (int step = 0; step < Dot::kSteps; ++step) {
          const auto& operand = Dot::operand(step, c0, c1);
          const auto* at = x + g * 8 + step * (8 / Dot::kSteps);
          for (int t = 0; t < T; ++t)
            dot[t].add(operand, reinterpret_cast<const uint8_t*>(at + t * q.width), 4);
        }
      }
      const F d = load_fp16(scales + b * 16);
      for (int t = 0; t < T; ++t)
        sum[t] = fma(to_float(dot[t].total(lacks[t])),
                     mul(d, splat(q.scales[(row + t) * blocks + b])), sum[t]);
    }
  }

  /// Adds to sum[half][t] the values of block `block` in a page, each weighted with scores[t *
  /// stride + position], as far as there are scores.
  template <int T>
  NIBBLE_METHOD static void mix(const uint8_t* values, int64_t blocks, int64_t block,
                                const float* scores, int64_t stride, int64_t positions,
                                F (&sum)[2][T]) {
    const auto* scales =
        reinterpret_cast<const uint16_t*>(values + 2 * blocks * kUnitBytes) + block * 32;
    float weight[T][kPagePositions] = {};  // what no position has written is not read
    for (int64_t p = 0; p < positions; p += 16) {
      const F d = load_fp16(scales + p);
      for (int t = 0; t < T; ++t) store(weight[t] + p, mul(load(scores + t * stride + p), d));
      for (int t = 0; t < T; ++t)
        for (int64_t i = positions; i < p + 16; ++i) weight[t][i] = 0;
    }
    const Units reader(nullptr);
    const I bias = splat_int(-kBias);
    const uint8_t* unit = values + 2 * block * kUnitBytes;
    for (int g = 0; g < kPagePositions / 8; ++g)
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        Codes c[2];
        reader.read(unit + half * kUnitBytes, g, c[0], c[1]);
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) {
          const F level = to_float(add_int(column(c[i / 4], i % 4), bias));
          for (int t = 0; t < T; ++t)
            sum[half][t] = fma(level, splat(weight[t][g * 8 + i]), sum[half][t]);
        }
      }
  }
};

}  // namespace
}  // namespace nibble::NIBBLE_ISA
