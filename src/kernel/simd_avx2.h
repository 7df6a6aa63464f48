// Sixteen lanes as two AVX2 registers. See simd.h.
#pragma once

#include <immintrin.h>

namespace nibble::NIBBLE_ISA {

struct F {
  __m256 a, b;
};
struct I {
  __m256i a, b;
};
struct Codes {
  __m256i a, b;  // rows 0..7, 8..15
};

NIBBLE_INLINE F splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
NIBBLE_INLINE F zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
NIBBLE_INLINE F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
NIBBLE_INLINE void store(float* p, F x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
NIBBLE_INLINE F add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
NIBBLE_INLINE F sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
NIBBLE_INLINE F mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
NIBBLE_INLINE F div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
NIBBLE_INLINE F max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
NIBBLE_INLINE F min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
NIBBLE_INLINE F fma(F x, F y, F z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}

NIBBLE_INLINE float hsum(F x) {
  const __m256 s = _mm256_add_ps(x.a, x.b);
  __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  t = _mm_add_ps(t, _mm_movehl_ps(t, t));
  return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}
NIBBLE_INLINE float hmax(F x) {
  const __m256 s = _mm256_max_ps(x.a, x.b);
  __m128 t = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  t = _mm_max_ps(t, _mm_movehl_ps(t, t));
  return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}

NIBBLE_INLINE __m128i load128(const void* p) { return _mm_loadu_si128((const __m128i*)p); }
NIBBLE_INLINE __m256i load256(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }

NIBBLE_INLINE F load_fp16(const uint16_t* p) {
  return {_mm256_cvtph_ps(load128(p)), _mm256_cvtph_ps(load128(p + 8))};
}
NIBBLE_INLINE F load_bf16(const uint16_t* p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load128(p)), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load128(p + 8)), 16))};
}
NIBBLE_INLINE void store_fp16(uint16_t* p, F x) {
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128((__m128i*)(p + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}

NIBBLE_INLINE I splat_int(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
NIBBLE_INLINE I add_int(I x, I y) {
  return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
NIBBLE_INLINE I mul_int(I x, I y) {
  return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)};
}
NIBBLE_INLINE F to_float(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
NIBBLE_INLINE I round_int(F x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
NIBBLE_INLINE F pow2(I n) {
  const __m256i one = _mm256_set1_epi32(127);
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n.a, one), 23)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n.b, one), 23))};
}
NIBBLE_INLINE I load_i8(const int8_t* p) {
  const __m128i x = load128(p);
  return {_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128(x, 8))};
}
NIBBLE_INLINE I load_u8(const uint8_t* p) {
  const __m128i x = load128(p);
  return {_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))};
}
NIBBLE_INLINE I load_pairs(const uint8_t* p) {
  const __m128i x = load128(p), y = load128(p + 16);
  return {_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(x, y)),
          _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(x, y))};
}
NIBBLE_INLINE I dot_pairs(I sum, I pairs, int32_t x) {
  const __m256i x2 = _mm256_set1_epi32(x);
  return {_mm256_add_epi32(sum.a, _mm256_madd_epi16(pairs.a, x2)),
          _mm256_add_epi32(sum.b, _mm256_madd_epi16(pairs.b, x2))};
}
NIBBLE_INLINE int32_t store_codes(int8_t* p, I x) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
  const __m128i bytes =
      _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128((__m128i*)p, bytes);
  const __m256i s = _mm256_madd_epi16(words, _mm256_set1_epi16(1));
  __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
  t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(t, _mm_shuffle_epi32(t, 0xb1)));
}

NIBBLE_INLINE Codes load_codes(const uint8_t* p) { return {load256(p), load256(p + 32)}; }
NIBBLE_INLINE void store_bytes(uint8_t* p, Codes c) {
  _mm256_storeu_si256((__m256i*)p, c.a);
  _mm256_storeu_si256((__m256i*)(p + 32), c.b);
}
NIBBLE_INLINE __m256i shift16(__m256i x, int by) {
  return by > 0 ? _mm256_slli_epi16(x, by) : by < 0 ? _mm256_srli_epi16(x, -by) : x;
}
NIBBLE_INLINE Codes move_bits(Codes c, int by, int mask) {
  const __m256i m = _mm256_set1_epi8(char(mask));
  return {_mm256_and_si256(shift16(c.a, by), m), _mm256_and_si256(shift16(c.b, by), m)};
}
NIBBLE_INLINE Codes either(Codes x, Codes y) {
  return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}
NIBBLE_INLINE Codes lookup(Codes c, const uint8_t* table) {
  const __m256i t = _mm256_broadcastsi128_si256(load128(table));
  return {_mm256_shuffle_epi8(t, c.a), _mm256_shuffle_epi8(t, c.b)};
}
NIBBLE_INLINE I column(const Codes& c, int j) {
  const __m256i mask = _mm256_set1_epi32(255);
  const __m128i shift = _mm_cvtsi32_si128(8 * j);
  return {_mm256_and_si256(_mm256_srl_epi32(c.a, shift), mask),
          _mm256_and_si256(_mm256_srl_epi32(c.b, shift), mask)};
}

NIBBLE_INLINE __m256i splat4(const void* p) {
  int32_t x;
  memcpy(&x, p, 4);
  return _mm256_set1_epi32(x);
}

/// Makes the compiler finish a sum here: left to itself, GCC puts additions off until it has more
/// products in flight than registers.
NIBBLE_INLINE void finish(__m256i& x) { asm("" : "+x"(x)); }

/// Bytes times bytes, a group of 4 columns at a time.
struct DotBytes {
  using Input = int8_t;
  static constexpr int kShift = 0, kSteps = 2, kTokens = 6;
  static const Input* inputs(const int8_t* codes, int64_t, void*) { return codes; }
  NIBBLE_METHOD static Codes operand(int step, const Codes& c0, const Codes& c1) {
    return step == 0 ? c0 : c1;
  }
  __m256i a, b;
  NIBBLE_METHOD void start(int32_t) { a = b = _mm256_setzero_si256(); }
};

/// Codes up to 15: eight pairs of products, at most 8 * 2 * 15 * 128 = 30720, fit 16 bits, so a
/// sub-block of 32 columns is widened only once.
struct DotSmall : DotBytes {
  NIBBLE_METHOD void add(const Codes& c, const uint8_t* x, int64_t) {
    const __m256i x4 = splat4(x);
    a = _mm256_add_epi16(a, _mm256_maddubs_epi16(c.a, x4));
    finish(a);
    b = _mm256_add_epi16(b, _mm256_maddubs_epi16(c.b, x4));
    finish(b);
  }
  NIBBLE_METHOD I total(int32_t lacks) const {
    const __m256i one = _mm256_set1_epi16(1);
    return add_int({_mm256_madd_epi16(a, one), _mm256_madd_epi16(b, one)}, splat_int(lacks));
  }
};

/// Codes up to 63: two pairs, at most 2 * 2 * 63 * 128 = 32256, fit 16 bits.
struct DotMedium {
  using Input = int8_t;
  static constexpr int kShift = 0, kSteps = 1, kTokens = 4;
  static const Input* inputs(const int8_t* codes, int64_t, void*) { return codes; }
  struct Pair {
    Codes c0, c1;
  };
  NIBBLE_METHOD static Pair operand(int, const Codes& c0, const Codes& c1) { return {c0, c1}; }
  __m256i a, b;
  NIBBLE_METHOD void start(int32_t) { a = b = _mm256_setzero_si256(); }
  NIBBLE_METHOD void add(const Pair& p, const uint8_t* x, int64_t next) {
    const __m256i x0 = splat4(x), x1 = splat4(x + next);
    add2(a, p.c0.a, x0, p.c1.a, x1);
    add2(b, p.c0.b, x0, p.c1.b, x1);
  }
  NIBBLE_METHOD static void add2(__m256i& sum, __m256i c0, __m256i x0, __m256i c1, __m256i x1) {
    const __m256i pairs =
        _mm256_add_epi16(_mm256_maddubs_epi16(c0, x0), _mm256_maddubs_epi16(c1, x1));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    finish(sum);
  }
  NIBBLE_METHOD I total(int32_t lacks) const { return add_int({a, b}, splat_int(lacks)); }
};

/// Codes up to 127: a pair of products, at most 2 * 127 * 128 = 32512, fits 16 bits.
struct DotLarge : DotBytes {
  NIBBLE_METHOD void add(const Codes& c, const uint8_t* x, int64_t) {
    const __m256i x4 = splat4(x), one = _mm256_set1_epi16(1);
    a = _mm256_add_epi32(a, _mm256_madd_epi16(_mm256_maddubs_epi16(c.a, x4), one));
    finish(a);
    b = _mm256_add_epi32(b, _mm256_madd_epi16(_mm256_maddubs_epi16(c.b, x4), one));
    finish(b);
  }
  NIBBLE_METHOD I total(int32_t lacks) const { return add_int({a, b}, splat_int(lacks)); }
};

/// Codes up to 255 would overflow 16 bits, so even and odd columns are widened and multiplied as 16
/// bits; inputs are widened beforehand, in the order x0 x2 x1 x3 that this needs.
struct DotWide {
  using Input = int16_t;
  static constexpr int kShift = 0, kSteps = 4, kTokens = 6;
  static const Input* inputs(const int8_t* codes, int64_t n, void* scratch) {
    auto* out = static_cast<int16_t*>(scratch);
    for (int64_t i = 0; i < n; i += 32) {
      const __m256i x = load256(codes + i);
      const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
      const __m256i odd = _mm256_srai_epi16(x, 8);
      const __m256i lo = _mm256_unpacklo_epi32(even, odd), hi = _mm256_unpackhi_epi32(even, odd);
      _mm256_storeu_si256((__m256i*)(out + i), _mm256_permute2x128_si256(lo, hi, 0x20));
      _mm256_storeu_si256((__m256i*)(out + i + 16), _mm256_permute2x128_si256(lo, hi, 0x31));
    }
    return out;
  }
  NIBBLE_METHOD static Codes operand(int step, const Codes& c0, const Codes& c1) {
    const Codes& c = step < 2 ? c0 : c1;
    if (step % 2 == 1) return {_mm256_srli_epi16(c.a, 8), _mm256_srli_epi16(c.b, 8)};
    const __m256i even = _mm256_set1_epi16(255);
    return {_mm256_and_si256(c.a, even), _mm256_and_si256(c.b, even)};
  }
  __m256i a, b;
  NIBBLE_METHOD void start(int32_t) { a = b = _mm256_setzero_si256(); }
  NIBBLE_METHOD void add(const Codes& c, const uint8_t* x, int64_t) {
    const __m256i x2 = splat4(x);
    a = _mm256_add_epi32(a, _mm256_madd_epi16(c.a, x2));
    finish(a);
    b = _mm256_add_epi32(b, _mm256_madd_epi16(c.b, x2));
    finish(b);
  }
  NIBBLE_METHOD I total(int32_t lacks) const { return add_int({a, b}, splat_int(lacks)); }
};
inline constexpr int kTile = 6;

}  // namespace nibble::NIBBLE_ISA
