// Stands in for the compiler's header where AVX-512 is emulated (NIBBLE_EMULATE_AVX512): what
// kernel/simd_avx512.h uses, lane by lane as the processor's manual defines it, for any processor.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/half.h"

typedef float __m128 __attribute__((vector_size(16)));
typedef float __m256 __attribute__((vector_size(32)));
typedef float __m512 __attribute__((vector_size(64)));
typedef int32_t __m128i __attribute__((vector_size(16)));
typedef int32_t __m256i __attribute__((vector_size(32)));
typedef int32_t __m512i __attribute__((vector_size(64)));

#define NIBBLE_EMULATED \
  [[maybe_unused]] static __attribute__((noinline))  // compiles in seconds, not minutes
#define NIBBLE_LANES(n) for (int i = 0; i < (n); ++i)

namespace {

/// The bits of a register, or of memory, as n lanes.
template <class Lane, int n>
struct Lanes {
  Lane at[n];
  template <class Register>
  static Lanes of(const Register& r) {
    static_assert(sizeof r == sizeof(Lanes));
    return from(&r);
  }
  static Lanes from(const void* p) {
    Lanes x;
    memcpy(&x, p, sizeof x);
    return x;
  }
  template <class Register>
  operator Register() const {
    static_assert(sizeof(Register) == sizeof(Lanes));
    Register r;
    memcpy(&r, at, sizeof r);
    return r;
  }
};

/// to[i] = expression in i, for n lanes.
#define NIBBLE_MAKE(Lane, n, expression)       \
  Lanes<Lane, n> to;                           \
  NIBBLE_LANES(n) to.at[i] = Lane(expression); \
  return to

// Memory.
NIBBLE_EMULATED __m512 _mm512_loadu_ps(const void* p) { return Lanes<float, 16>::from(p); }
NIBBLE_EMULATED void _mm512_storeu_ps(void* p, __m512 x) { memcpy(p, &x, sizeof x); }
NIBBLE_EMULATED __m128i _mm_loadu_si128(const void* p) { return Lanes<int32_t, 4>::from(p); }
NIBBLE_EMULATED __m256i _mm256_loadu_si256(const void* p) { return Lanes<int32_t, 8>::from(p); }
NIBBLE_EMULATED __m512i _mm512_loadu_si512(const void* p) { return Lanes<int32_t, 16>::from(p); }
NIBBLE_EMULATED void _mm512_storeu_si512(void* p, __m512i x) { memcpy(p, &x, sizeof x); }
NIBBLE_EMULATED void _mm_storeu_si128(void* p, __m128i x) { memcpy(p, &x, sizeof x); }
NIBBLE_EMULATED void _mm256_storeu_si256(void* p, __m256i x) { memcpy(p, &x, sizeof x); }

// The same value in all lanes.
NIBBLE_EMULATED __m512 _mm512_setzero_ps() { return __m512{}; }
NIBBLE_EMULATED __m512i _mm512_setzero_si512() { return __m512i{}; }
NIBBLE_EMULATED __m512 _mm512_set1_ps(float x) { return x - __m512{}; }
NIBBLE_EMULATED __m512i _mm512_set1_epi32(int32_t x) { return x - __m512i{}; }
#define _mm512_set_epi32(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p) \
  (__m512i{p, o, n, m, l, k, j, i, h, g, f, e, d, c, b, a})
NIBBLE_EMULATED __m512i _mm512_set1_epi8(int8_t x) { NIBBLE_MAKE(int8_t, 64, x); }
NIBBLE_EMULATED __m512i _mm512_broadcast_i32x4(__m128i x) { NIBBLE_MAKE(int32_t, 16, x[i % 4]); }
NIBBLE_EMULATED __m128i _mm_cvtsi32_si128(int32_t x) { return __m128i{x}; }

// Parts and other names.
NIBBLE_EMULATED __m128 _mm256_castps256_ps128(__m256 x) { NIBBLE_MAKE(float, 4, x[i]); }
NIBBLE_EMULATED __m256 _mm512_castps512_ps256(__m512 x) { NIBBLE_MAKE(float, 8, x[i]); }
NIBBLE_EMULATED __m128 _mm256_extractf128_ps(__m256 x, int part) {
  NIBBLE_MAKE(float, 4, x[4 * part + i]);
}
NIBBLE_EMULATED __m256 _mm512_extractf32x8_ps(__m512 x, int part) {
  NIBBLE_MAKE(float, 8, x[8 * part + i]);
}
NIBBLE_EMULATED __m512 _mm512_castsi512_ps(__m512i x) { return (__m512)x; }

/// Bytes of x and y in turn, of the low or the high half.
NIBBLE_EMULATED __m128i _mm_unpacklo_epi8(__m128i x, __m128i y) {
  const auto a = Lanes<uint8_t, 16>::of(x), b = Lanes<uint8_t, 16>::of(y);
  NIBBLE_MAKE(uint8_t, 16, i % 2 == 0 ? a.at[i / 2] : b.at[i / 2]);
}
NIBBLE_EMULATED __m128i _mm_unpackhi_epi8(__m128i x, __m128i y) {
  const auto a = Lanes<uint8_t, 16>::of(x), b = Lanes<uint8_t, 16>::of(y);
  NIBBLE_MAKE(uint8_t, 16, i % 2 == 0 ? a.at[8 + i / 2] : b.at[8 + i / 2]);
}
NIBBLE_EMULATED __m256i _mm256_set_m128i(__m128i high, __m128i low) {
  NIBBLE_MAKE(int32_t, 8, i < 4 ? low[i] : high[i - 4]);
}

// Floats. fma rounds once; max and min take the second operand where either is NaN.
NIBBLE_EMULATED __m512 _mm512_add_ps(__m512 x, __m512 y) { return x + y; }
NIBBLE_EMULATED __m512 _mm512_sub_ps(__m512 x, __m512 y) { return x - y; }
NIBBLE_EMULATED __m512 _mm512_mul_ps(__m512 x, __m512 y) { return x * y; }
NIBBLE_EMULATED __m512 _mm512_div_ps(__m512 x, __m512 y) { return x / y; }
NIBBLE_EMULATED __m512 _mm512_max_ps(__m512 x, __m512 y) { return x > y ? x : y; }
NIBBLE_EMULATED __m512 _mm512_min_ps(__m512 x, __m512 y) { return x < y ? x : y; }
NIBBLE_EMULATED __m512 _mm512_fmadd_ps(__m512 x, __m512 y, __m512 z) {
  NIBBLE_MAKE(float, 16, __builtin_fmaf(x[i], y[i], z[i]));
}
NIBBLE_EMULATED __m256 _mm256_add_ps(__m256 x, __m256 y) { return x + y; }
NIBBLE_EMULATED __m256 _mm256_max_ps(__m256 x, __m256 y) { return x > y ? x : y; }
NIBBLE_EMULATED __m128 _mm_add_ps(__m128 x, __m128 y) { return x + y; }
NIBBLE_EMULATED __m128 _mm_max_ps(__m128 x, __m128 y) { return x > y ? x : y; }
NIBBLE_EMULATED __m128 _mm_add_ss(__m128 x, __m128 y) { return x[0] += y[0], x; }
NIBBLE_EMULATED __m128 _mm_max_ss(__m128 x, __m128 y) {
  return x[0] = x[0] > y[0] ? x[0] : y[0], x;
}
NIBBLE_EMULATED __m128 _mm_movehl_ps(__m128 x, __m128 y) { return __m128{y[2], y[3], x[2], x[3]}; }
NIBBLE_EMULATED __m128 _mm_movehdup_ps(__m128 x) { return __m128{x[1], x[1], x[3], x[3]}; }
NIBBLE_EMULATED float _mm_cvtss_f32(__m128 x) { return x[0]; }

// Conversions. Floats that no int32 holds become INT32_MIN.
#define _MM_FROUND_TO_NEAREST_INT 0
NIBBLE_EMULATED __m512 _mm512_cvtph_ps(__m256i x) {
  const auto halves = Lanes<uint16_t, 16>::of(x);
  NIBBLE_MAKE(float, 16, nibble::fp16_to_f32(halves.at[i]));
}
NIBBLE_EMULATED __m256i _mm512_cvtps_ph(__m512 x, int) {
  NIBBLE_MAKE(uint16_t, 16, nibble::f32_to_fp16(x[i]));
}
NIBBLE_EMULATED __m512 _mm512_cvtepi32_ps(__m512i x) { return __builtin_convertvector(x, __m512); }
NIBBLE_EMULATED __m512i _mm512_cvtps_epi32(__m512 x) {
  NIBBLE_MAKE(int32_t, 16, fabsf(x[i]) < 0x1p31f ? int32_t(rintf(x[i])) : INT32_MIN);
}
NIBBLE_EMULATED __m512i _mm512_cvtepi8_epi32(__m128i x) {
  const auto bytes = Lanes<int8_t, 16>::of(x);
  NIBBLE_MAKE(int32_t, 16, bytes.at[i]);
}
NIBBLE_EMULATED __m512i _mm512_cvtepu8_epi32(__m128i x) {
  const auto bytes = Lanes<uint8_t, 16>::of(x);
  NIBBLE_MAKE(int32_t, 16, bytes.at[i]);
}
NIBBLE_EMULATED __m512i _mm512_cvtepu16_epi32(__m256i x) {
  const auto words = Lanes<uint16_t, 16>::of(x);
  NIBBLE_MAKE(int32_t, 16, words.at[i]);
}
NIBBLE_EMULATED __m512i _mm512_cvtepu8_epi16(__m256i x) {
  const auto bytes = Lanes<uint8_t, 32>::of(x);
  NIBBLE_MAKE(uint16_t, 32, bytes.at[i]);
}
NIBBLE_EMULATED __m128i _mm512_cvtsepi32_epi8(__m512i x) {
  NIBBLE_MAKE(int8_t, 16, x[i] < -128 ? -128 : x[i] > 127 ? 127 : x[i]);
}

// Integers.
NIBBLE_EMULATED __m512i _mm512_add_epi32(__m512i x, __m512i y) { return x + y; }
NIBBLE_EMULATED __m512i _mm512_mullo_epi32(__m512i x, __m512i y) { return x * y; }
NIBBLE_EMULATED __m512i _mm512_and_si512(__m512i x, __m512i y) { return x & y; }
NIBBLE_EMULATED __m512i _mm512_or_si512(__m512i x, __m512i y) { return x | y; }
NIBBLE_EMULATED __m512i _mm512_slli_epi16(__m512i x, unsigned n) {
  const auto words = Lanes<uint16_t, 32>::of(x);
  NIBBLE_MAKE(uint16_t, 32, words.at[i] << n);
}
NIBBLE_EMULATED __m512i _mm512_slli_epi32(__m512i x, unsigned n) { return x << int(n); }
NIBBLE_EMULATED __m512i _mm512_srli_epi16(__m512i x, unsigned n) {
  const auto words = Lanes<uint16_t, 32>::of(x);
  NIBBLE_MAKE(uint16_t, 32, words.at[i] >> n);
}
NIBBLE_EMULATED __m512i _mm512_srl_epi32(__m512i x, __m128i n) {
  NIBBLE_MAKE(uint32_t, 16, uint32_t(x[i]) >> n[0]);
}
NIBBLE_EMULATED int32_t _mm512_reduce_add_epi32(__m512i x) {
  int32_t sum = 0;
  NIBBLE_LANES(16) sum += x[i];
  return sum;
}
NIBBLE_EMULATED __m512i _mm512_shuffle_epi8(__m512i table, __m512i at) {  // in each 16 bytes
  const auto from = Lanes<uint8_t, 64>::of(table), of = Lanes<uint8_t, 64>::of(at);
  NIBBLE_MAKE(uint8_t, 64, of.at[i] & 0x80 ? 0 : from.at[i / 16 * 16 + of.at[i] % 16]);
}
/// sum + unsigned bytes times signed bytes, four to a lane.
NIBBLE_EMULATED __m512i _mm512_dpbusd_epi32(__m512i sum, __m512i codes, __m512i inputs) {
  const auto u = Lanes<uint8_t, 64>::of(codes);
  const auto s = Lanes<int8_t, 64>::of(inputs);
  NIBBLE_MAKE(int32_t, 16,
              sum[i] + u.at[4 * i] * s.at[4 * i] + u.at[4 * i + 1] * s.at[4 * i + 1] +
                  u.at[4 * i + 2] * s.at[4 * i + 2] + u.at[4 * i + 3] * s.at[4 * i + 3]);
}

/// sum + signed 16 bits times signed 16 bits, two to a lane.
NIBBLE_EMULATED __m512i _mm512_dpwssd_epi32(__m512i sum, __m512i x, __m512i y) {
  const auto a = Lanes<int16_t, 32>::of(x), b = Lanes<int16_t, 32>::of(y);
  NIBBLE_MAKE(int32_t, 16, sum[i] + a.at[2 * i] * b.at[2 * i] + a.at[2 * i + 1] * b.at[2 * i + 1]);
}
NIBBLE_EMULATED __m512i _mm512_madd_epi16(__m512i x, __m512i y) {
  return _mm512_dpwssd_epi32(__m512i{}, x, y);
}

// What processors without VNNI have.
NIBBLE_EMULATED __m512i _mm512_add_epi16(__m512i x, __m512i y) {
  const auto a = Lanes<uint16_t, 32>::of(x), b = Lanes<uint16_t, 32>::of(y);
  NIBBLE_MAKE(uint16_t, 32, a.at[i] + b.at[i]);
}
NIBBLE_EMULATED __m512i _mm512_add_epi8(__m512i x, __m512i y) {
  const auto a = Lanes<uint8_t, 64>::of(x), b = Lanes<uint8_t, 64>::of(y);
  NIBBLE_MAKE(uint8_t, 64, a.at[i] + b.at[i]);
}
NIBBLE_EMULATED __m512i _mm512_mullo_epi16(__m512i x, __m512i y) {
  const auto a = Lanes<uint16_t, 32>::of(x), b = Lanes<uint16_t, 32>::of(y);
  NIBBLE_MAKE(uint16_t, 32, a.at[i] * uint32_t{b.at[i]});
}
NIBBLE_EMULATED __m512i _mm512_min_epu32(__m512i x, __m512i y) {
  NIBBLE_MAKE(uint32_t, 16, uint32_t(x[i]) < uint32_t(y[i]) ? x[i] : y[i]);
}
NIBBLE_EMULATED int saturate16(int x) { return x < -32768 ? -32768 : x > 32767 ? 32767 : x; }
/// Unsigned bytes times signed bytes, two to 16 bits, which saturate.
NIBBLE_EMULATED __m512i _mm512_maddubs_epi16(__m512i codes, __m512i inputs) {
  const auto u = Lanes<uint8_t, 64>::of(codes);
  const auto s = Lanes<int8_t, 64>::of(inputs);
  NIBBLE_MAKE(int16_t, 32,
              saturate16(u.at[2 * i] * s.at[2 * i] + u.at[2 * i + 1] * s.at[2 * i + 1]));
}

// Numbers of bfloat16.
typedef int16_t __m512bh __attribute__((vector_size(64)));
/// Those of y in the low half.
NIBBLE_EMULATED __m512bh _mm512_cvtne2ps_pbh(__m512 x, __m512 y) {
  NIBBLE_MAKE(uint16_t, 32, nibble::f32_to_bf16(i < 16 ? y[i] : x[i - 16]));
}
NIBBLE_EMULATED __m512i _mm512_permutexvar_epi16(__m512i at, __m512i x) {
  const auto lane = Lanes<uint16_t, 32>::of(at), from = Lanes<uint16_t, 32>::of(x);
  NIBBLE_MAKE(uint16_t, 32, from.at[lane.at[i] % 32]);
}
/// sum + products of pairs, the second one first.
NIBBLE_EMULATED __m512 _mm512_dpbf16_ps(__m512 sum, __m512bh x, __m512bh y) {
  const auto a = Lanes<uint16_t, 32>::of(x), b = Lanes<uint16_t, 32>::of(y);
  const auto product = [&](int i, float z) {
    return __builtin_fmaf(nibble::bf16_to_f32(a.at[i]), nibble::bf16_to_f32(b.at[i]), z);
  };
  NIBBLE_MAKE(float, 16, product(2 * i, product(2 * i + 1, sum[i])));
}

}  // namespace
