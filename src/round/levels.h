// The nearest level of a code book, for a whole vector. Included by per-ISA files only.
#pragma once

#include "round/search.h"
#include "round/vec.h"

namespace nibble::NIBBLE_ISA {

/// Levels that are consecutive integers.
class Consecutive {
 public:
  explicit Consecutive(const SearchSpec& spec)
      : low_(splat(spec.levels[spec.first_code])),
        high_(splat(spec.levels[spec.level_count - 1])),
        zero_(int(spec.levels[0])) {}

  Floats level(Floats x) const { return nearest_integer(min(max(x, low_), high_)); }
  Ints code(Floats x) const { return __builtin_convertvector(level(x), Ints) - zero_; }
  Floats at(Ints code) const { return __builtin_convertvector(code + zero_, Floats); }

 private:
  Floats low_, high_;
  int zero_;  // level of code 0
};

/// 16 levels from a table, found by bisection: node i of a tree laid out as a heap has children 2i
/// and 2i + 1, and holds the middle between the greatest level to its left and the least to its
/// right.
class Table {
 public:
  explicit Table(const SearchSpec& spec) {
    middles_[0] = 0;
    for (int depth = 0; depth < 4; ++depth)
      for (int i = 0; i < 1 << depth; ++i) {
        const int right = (2 * i + 1) << (3 - depth);
        middles_[(1 << depth) + i] = 0.5f * (spec.levels[right - 1] + spec.levels[right]);
      }
    for (int i = 0; i < 16; ++i) levels_[i] = spec.levels[i];
  }

  Floats level(Floats x) const { return at(code(x)); }

  Ints code(Floats x) const {
    Ints node = Ints{} + 1;
    for (int depth = 0; depth < 3; ++depth) node += node - (x > pick(middles_, node));
    node += node - (x > pick(middles_ + (kLanes == 8 ? 8 : 0), node));  // nodes 8 .. 15
    return node & 15;
  }
#if NIBBLE_VECTOR_BYTES >= 32 && !defined(__clang__)
  Floats at(Ints code) const {
    if constexpr (kLanes == 16) return pick(levels_, code);
    return select(code > 7, pick(levels_ + 8, code), pick(levels_, code));
  }

 private:
  /// Entries of the kLanes that start at `table`; a vector holds them all.
  static Floats pick(const float* table, Ints index) {
    return __builtin_shuffle(load(table), index);
  }
#else
  Floats at(Ints code) const { return pick(levels_, code); }

 private:
  static Floats pick(const float* table, Ints index) {
    Floats out;
    for (int l = 0; l < kLanes; ++l) out[l] = table[index[l]];
    return out;
  }
#endif

  alignas(64) float middles_[16];
  alignas(64) float levels_[16];
};

/// All finite values of an 8-bit float with 4 bits of exponent and 3 of mantissa (OCP FP8 E4M3):
/// codes 0 .. 126 are -448 .. -0, codes 127 .. 253 are 0 .. 448.
class E4m3 {
 public:
  explicit E4m3(const SearchSpec&) {}

  Floats level(Floats x) const {
    const Ints sign = (Ints)x & INT32_MIN, size = (Ints)min(abs(x), splat(448));
    const Floats normal = (Floats)((size + 0x7ffff + (size >> 20 & 1)) & ~0xfffff);
    const Floats subnormal = nearest_integer((Floats)size * 512) * (1.0f / 512);
    return (Floats)((Ints)select((Floats)size < 0x1p-6f, subnormal, normal) | sign);
  }
  Ints code(Floats x) const {
    const Ints bits = (Ints)level(x), size = bits & 0x7fffffff;
    const Ints small = __builtin_convertvector((Floats)size * 512, Ints);
    const Ints magnitude = (Floats)size < 0x1p-6f ? small : (size >> 20) - kBias;
    return bits < 0 ? 126 - magnitude : 127 + magnitude;
  }
  Floats at(Ints code) const {
    const Ints negative = code < 127, magnitude = negative ? 126 - code : code - 127;
    const Floats small = __builtin_convertvector(magnitude, Floats) * (1.0f / 512);
    const Floats size = select(magnitude < 8, small, (Floats)((magnitude + kBias) << 20));
    return select(negative, -size, size);
  }

 private:
  static constexpr int kBias = (127 - 7) << 3;  // of the exponents, in eighths of a power of two
};

template <class T>
struct Type {
  using type = T;
};

/// fn(type of the levels of `spec`).
template <class Fn>
void with_levels(const SearchSpec& spec, Fn fn) {
  switch (spec.kind) {
    case SearchSpec::kConsecutive:
      return fn(Type<Consecutive>());
    case SearchSpec::kTable:
      return fn(Type<Table>());
    case SearchSpec::kE4m3:
      return fn(Type<E4m3>());
  }
}

/// As the format stores a scale, or an offset; powers of two are chosen elsewhere.
static inline Floats as_stored(const SearchSpec& spec, Floats x) {
  if (spec.number == SearchSpec::kFp16) return round_fp16(x);
  if (spec.number == SearchSpec::kEightBits) return round_e4m3(x);
  return spec.number == SearchSpec::kBf16 ? round_bf16(x) : x;
}

}  // namespace nibble::NIBBLE_ISA
