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
  __m256i v[2];  // rows 0..7, 8..15
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

NIBBLE_INLINE F power_of_two(F x) {
  const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7f800000));
  return {_mm256_and_ps(x.a, mask), _mm256_and_ps(x.b, mask)};
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
NIBBLE_INLINE F as_float(I x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
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

NIBBLE_INLINE Codes load_codes(const uint8_t* p) { return {{load256(p), load256(p + 32)}}; }
NIBBLE_INLINE void store_bytes(uint8_t* p, Codes c) {
  _mm256_storeu_si256((__m256i*)p, c.v[0]);
  _mm256_storeu_si256((__m256i*)(p + 32), c.v[1]);
}
NIBBLE_INLINE __m256i shift16(__m256i x, int by) {
  return by > 0 ? _mm256_slli_epi16(x, by) : by < 0 ? _mm256_srli_epi16(x, -by) : x;
}
NIBBLE_INLINE Codes move_bits(Codes c, int by, int mask) {
  const __m256i m = _mm256_set1_epi8(char(mask));
  return {{_mm256_and_si256(shift16(c.v[0], by), m), _mm256_and_si256(shift16(c.v[1], by), m)}};
}
NIBBLE_INLINE Codes merge_bits(Codes x, Codes c, int by, int mask) {
  const Codes y = move_bits(c, by, mask);
  return {{_mm256_or_si256(x.v[0], y.v[0]), _mm256_or_si256(x.v[1], y.v[1])}};
}
NIBBLE_INLINE Codes lookup(Codes c, const uint8_t* table) {
  const __m256i t = _mm256_broadcastsi128_si256(load128(table));
  return {{_mm256_shuffle_epi8(t, c.v[0]), _mm256_shuffle_epi8(t, c.v[1])}};
}
NIBBLE_INLINE I column(const Codes& c, int j) {
  const __m256i mask = _mm256_set1_epi32(255);
  const __m128i shift = _mm_cvtsi32_si128(8 * j);
  return {_mm256_and_si256(_mm256_srl_epi32(c.v[0], shift), mask),
          _mm256_and_si256(_mm256_srl_epi32(c.v[1], shift), mask)};
}

using Register = __m256i;
inline constexpr int kRegisters = 2, kByteTile = 6, kPairTile = 4, kWideTile = 6;
NIBBLE_INLINE Register zero_register() { return _mm256_setzero_si256(); }
NIBBLE_INLINE Register splat16(int x) { return _mm256_set1_epi16(int16_t(x)); }
NIBBLE_INLINE Register splat4(const void* p) {
  int32_t x;
  memcpy(&x, p, 4);
  return _mm256_set1_epi32(x);
}
NIBBLE_INLINE Register add16(Register x, Register y) { return _mm256_add_epi16(x, y); }
NIBBLE_INLINE Register add32(Register x, Register y) { return _mm256_add_epi32(x, y); }
NIBBLE_INLINE Register multiply_bytes(Register x, Register y) { return _mm256_maddubs_epi16(x, y); }
NIBBLE_INLINE Register multiply16(Register x, Register y) { return _mm256_madd_epi16(x, y); }
NIBBLE_INLINE Register low_bytes(Register x) { return _mm256_and_si256(x, splat16(255)); }
NIBBLE_INLINE Register high_bytes(Register x) { return _mm256_srli_epi16(x, 8); }
/// Makes the compiler finish a sum here: left to itself, GCC puts additions off until it has more
/// products in flight than registers.
NIBBLE_INLINE void finish(Register& x) { asm("" : "+x"(x)); }
NIBBLE_INLINE I ints(const Register (&x)[kRegisters]) { return {x[0], x[1]}; }
inline constexpr int kTile = 6, kTilePanels = 1, kTokensInPlace = 4;

}  // namespace nibble::NIBBLE_ISA

#include "kernel/dot_bytes.h"
#include "kernel/step_bf16.h"
