// Sixteen lanes as one AVX-512 register, with VNNI dot products of bytes and with dot products of
// bf16 where the instruction set has them. See simd.h.
#pragma once

#include <immintrin.h>

namespace nibble::NIBBLE_ISA {

using F = __m512;
using I = __m512i;
struct Codes {
  __m512i v[1];
};

NIBBLE_INLINE F splat(float x) { return _mm512_set1_ps(x); }
NIBBLE_INLINE F zero() { return _mm512_setzero_ps(); }
NIBBLE_INLINE F load(const float* p) { return _mm512_loadu_ps(p); }
NIBBLE_INLINE void store(float* p, F x) { _mm512_storeu_ps(p, x); }
NIBBLE_INLINE F add(F x, F y) { return _mm512_add_ps(x, y); }
NIBBLE_INLINE F sub(F x, F y) { return _mm512_sub_ps(x, y); }
NIBBLE_INLINE F mul(F x, F y) { return _mm512_mul_ps(x, y); }
NIBBLE_INLINE F div(F x, F y) { return _mm512_div_ps(x, y); }
NIBBLE_INLINE F max(F x, F y) { return _mm512_max_ps(x, y); }
NIBBLE_INLINE F min(F x, F y) { return _mm512_min_ps(x, y); }
NIBBLE_INLINE F fma(F x, F y, F z) { return _mm512_fmadd_ps(x, y, z); }

NIBBLE_INLINE F power_of_two(F x) {
  return (F)_mm512_and_si512((__m512i)x, _mm512_set1_epi32(0x7f800000));
}

NIBBLE_INLINE float hsum(F x) {
  const __m256 s = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  t = _mm_add_ps(t, _mm_movehl_ps(t, t));
  return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}
NIBBLE_INLINE float hmax(F x) {
  const __m256 s = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  __m128 t = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  t = _mm_max_ps(t, _mm_movehl_ps(t, t));
  return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}

NIBBLE_INLINE __m128i load128(const void* p) { return _mm_loadu_si128((const __m128i*)p); }
NIBBLE_INLINE __m256i load256(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }

NIBBLE_INLINE F load_fp16(const uint16_t* p) { return _mm512_cvtph_ps(load256(p)); }
NIBBLE_INLINE F load_bf16(const uint16_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load256(p)), 16));
}
NIBBLE_INLINE void store_fp16(uint16_t* p, F x) {
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

NIBBLE_INLINE I splat_int(int32_t x) { return _mm512_set1_epi32(x); }
NIBBLE_INLINE I add_int(I x, I y) { return _mm512_add_epi32(x, y); }
NIBBLE_INLINE I mul_int(I x, I y) { return _mm512_mullo_epi32(x, y); }
NIBBLE_INLINE F as_float(I x) { return _mm512_castsi512_ps(x); }
NIBBLE_INLINE F to_float(I x) { return _mm512_cvtepi32_ps(x); }
NIBBLE_INLINE I round_int(F x) { return _mm512_cvtps_epi32(x); }
NIBBLE_INLINE F pow2(I n) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}
NIBBLE_INLINE I load_i8(const int8_t* p) { return _mm512_cvtepi8_epi32(load128(p)); }
NIBBLE_INLINE I load_u8(const uint8_t* p) { return _mm512_cvtepu8_epi32(load128(p)); }
NIBBLE_INLINE I load_pairs(const uint8_t* p) {
  const __m128i x = load128(p), y = load128(p + 16);
  return _mm512_cvtepu8_epi16(_mm256_set_m128i(_mm_unpackhi_epi8(x, y), _mm_unpacklo_epi8(x, y)));
}
/// Makes the compiler finish a sum here: left to itself, GCC puts products off until it has more
/// inputs in flight than registers.
NIBBLE_INLINE void finish(__m512i& x) { asm("" : "+v"(x)); }

NIBBLE_INLINE I dot_pairs(I sum, I pairs, int32_t x) {
#ifdef NIBBLE_VNNI
  I total = _mm512_dpwssd_epi32(sum, pairs, _mm512_set1_epi32(x));
#else
  I total = _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi32(x)));
#endif
  finish(total);
  return total;
}
NIBBLE_INLINE int32_t store_codes(int8_t* p, I x) {
  _mm_storeu_si128((__m128i*)p, _mm512_cvtsepi32_epi8(x));
  return _mm512_reduce_add_epi32(x);
}

NIBBLE_INLINE Codes load_codes(const uint8_t* p) { return {{_mm512_loadu_si512(p)}}; }
NIBBLE_INLINE void store_bytes(uint8_t* p, Codes c) { _mm512_storeu_si512(p, c.v[0]); }
NIBBLE_INLINE __m512i shift16(__m512i x, int by) {
  return by > 0   ? _mm512_slli_epi16(x, unsigned(by))
         : by < 0 ? _mm512_srli_epi16(x, unsigned(-by))
                  : x;
}
NIBBLE_INLINE Codes move_bits(Codes c, int by, int mask) {
  return {{_mm512_and_si512(shift16(c.v[0], by), _mm512_set1_epi8(char(mask)))}};
}
NIBBLE_INLINE Codes merge_bits(Codes x, Codes c, int by, int mask) {
  const __m512i m = _mm512_set1_epi8(char(mask));
  return {{_mm512_ternarylogic_epi32(x.v[0], shift16(c.v[0], by), m, 0xf8)}};  // x | (c & m)
}
NIBBLE_INLINE Codes lookup(Codes c, const uint8_t* table) {
  return {{_mm512_shuffle_epi8(_mm512_broadcast_i32x4(load128(table)), c.v[0])}};
}
NIBBLE_INLINE I column(const Codes& c, int j) {
  return _mm512_and_si512(_mm512_srl_epi32(c.v[0], _mm_cvtsi32_si128(8 * j)),
                          _mm512_set1_epi32(255));
}

NIBBLE_INLINE __m512i splat4(const void* p) {
  int32_t x;
  memcpy(&x, p, 4);
  return _mm512_set1_epi32(x);
}

inline constexpr int kTile = 6, kTilePanels = 2, kTokensInPlace = 4;

#ifdef NIBBLE_VNNI

/// Unsigned times signed bytes, four at a time, summed in 32 bits.
struct DotWide {
  using Input = int8_t;
  static constexpr int kShift = 0, kSteps = 2, kTokens = kTile;
  static const Input* inputs(const int8_t* codes, int64_t, void*) { return codes; }
  NIBBLE_METHOD static Codes operand(int step, const Codes& c0, const Codes& c1) {
    return step == 0 ? c0 : c1;
  }
  __m512i sum;
  NIBBLE_METHOD void start(int32_t lacks) { sum = _mm512_set1_epi32(lacks); }
  NIBBLE_METHOD void add(const Codes& c, const uint8_t* x, int64_t) {
    sum = _mm512_dpbusd_epi32(sum, c.v[0], splat4(x)), finish(sum);
  }
  NIBBLE_METHOD void settle() {}
  NIBBLE_METHOD I total(int32_t) const { return sum; }
};
using DotSmall = DotWide;
using DotMedium = DotWide;
using DotLarge = DotWide;

inline constexpr bool kScalesCodes = true;
struct CodeScale {
  __m512i scale, offset;  // 16 and 8 bits, the same throughout a row
  NIBBLE_METHOD CodeScale(I s, int32_t bias, int32_t least) {
    const I added = add_int(mul_int(s, splat_int(bias)), splat_int(-least));
    scale = mul_int(_mm512_and_si512(s, splat_int(0xffff)), splat_int(0x10001));
    offset = mul_int(_mm512_and_si512(added, splat_int(0xff)), splat_int(0x01010101));
  }
  NIBBLE_METHOD Codes of(const Codes& c) const {
    const __m512i low = splat_int(0x00ff00ff), high = splat_int(int32_t(0xff00ff00u));
    const __m512i even = _mm512_mullo_epi16(_mm512_and_si512(c.v[0], low), scale);
    const __m512i odd = _mm512_mullo_epi16(_mm512_and_si512(c.v[0], high), scale);
    return {{_mm512_add_epi8(_mm512_or_si512(_mm512_and_si512(even, low), odd), offset)}};
  }
};

#else

using Register = __m512i;
inline constexpr int kRegisters = 1, kByteTile = 6, kPairTile = 6, kWideTile = 6;
NIBBLE_INLINE Register zero_register() { return _mm512_setzero_si512(); }
NIBBLE_INLINE Register splat16(int x) { return _mm512_set1_epi32(x << 16 | x); }
NIBBLE_INLINE Register add16(Register x, Register y) { return _mm512_add_epi16(x, y); }
NIBBLE_INLINE Register add32(Register x, Register y) { return _mm512_add_epi32(x, y); }
NIBBLE_INLINE Register multiply_bytes(Register x, Register y) { return _mm512_maddubs_epi16(x, y); }
NIBBLE_INLINE Register multiply16(Register x, Register y) { return _mm512_madd_epi16(x, y); }
NIBBLE_INLINE Register low_bytes(Register x) { return _mm512_and_si512(x, splat16(255)); }
NIBBLE_INLINE Register high_bytes(Register x) { return _mm512_srli_epi16(x, 8); }
NIBBLE_INLINE I ints(const Register (&x)[kRegisters]) { return x[0]; }

#endif

#ifdef NIBBLE_BF16

/// Pairs of bf16, the even column of each in the low half. See step_bf16.h for how it is rounded.
struct StepBf16 {
  static constexpr int kColumns = 2;
  template <class Panel>
  NIBBLE_METHOD static F weights(const Panel& panel, int64_t j) {
    return pairs(panel.column(2 * j), panel.column(2 * j + 1));
  }
  NIBBLE_METHOD static F add(F w, float x, F sum) {
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)_mm512_set1_ps(x));
  }
  static void inputs(const float* x, float* out, int64_t n) {
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) store(out + i / 2, halves(load(x + i), load(x + i + 16)));
    if (i == n) return;
    float rest[32] = {};
    memcpy(rest, x + i, size_t(n - i) * sizeof(float));
    store(rest, halves(load(rest), load(rest + 16)));
    memcpy(out + i / 2, rest, size_t(n - i) / 2 * sizeof(float));
  }

 private:
  NIBBLE_METHOD static F halves(F low, F high) { return (F)_mm512_cvtne2ps_pbh(high, low); }
  NIBBLE_METHOD static F pairs(F even, F odd) {
    const __m512i in_turn = _mm512_add_epi32(
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
        _mm512_set_epi32(31 << 16, 30 << 16, 29 << 16, 28 << 16, 27 << 16, 26 << 16, 25 << 16,
                         24 << 16, 23 << 16, 22 << 16, 21 << 16, 20 << 16, 19 << 16, 18 << 16,
                         17 << 16, 16 << 16));
    return (F)_mm512_permutexvar_epi16(in_turn, (__m512i)halves(even, odd));
  }
};

#endif

}  // namespace nibble::NIBBLE_ISA

#ifndef NIBBLE_VNNI
#include "kernel/dot_bytes.h"
#endif
#ifndef NIBBLE_BF16
#include "kernel/step_bf16.h"
#endif
