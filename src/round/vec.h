// Vectors as wide as the instruction set this file is compiled for has registers. Each lane is one
// row of weights and computes alone, in IEEE operations that are fused only where multiply_add()
// says so: so the width does not change any result. Included by per-ISA files only.
#pragma once

#include <stdint.h>

#if defined(NIBBLE_ISA_avx512) || defined(NIBBLE_ISA_avx2)
#include <immintrin.h>
#elif defined(NIBBLE_ISA_neon)
#include <arm_neon.h>
#endif

#if defined(NIBBLE_ISA_avx512)
#define NIBBLE_VECTOR_BYTES 64
#elif defined(NIBBLE_ISA_avx2)
#define NIBBLE_VECTOR_BYTES 32
#else
#define NIBBLE_VECTOR_BYTES 16
#endif

namespace nibble::NIBBLE_ISA {

#define NIBBLE_STRING_(x) #x
#define NIBBLE_STRING(x) NIBBLE_STRING_(x)
constexpr const char* kIsa = NIBBLE_STRING(NIBBLE_ISA);

constexpr int kLanes = NIBBLE_VECTOR_BYTES / 4;
typedef float Floats __attribute__((vector_size(NIBBLE_VECTOR_BYTES)));
typedef int32_t Ints __attribute__((vector_size(NIBBLE_VECTOR_BYTES)));

static inline Floats splat(float x) { return x - Floats{}; }
static inline Floats load(const float* p) { return *(const Floats*)p; }
static inline void store(float* p, Floats x) { *(Floats*)p = x; }

/// Keeps the low bits of each lane.
template <class Integer>
static inline void store_narrow(Integer* p, Ints x) {
#if defined(__clang__)
  typedef Integer Narrow __attribute__((vector_size(kLanes * sizeof(Integer))));
  const Narrow narrow = __builtin_convertvector(x, Narrow);
#else  // GCC 12 converts lane by lane; little-endian bytes are gathered in two instructions
  typedef uint8_t Bytes __attribute__((vector_size(NIBBLE_VECTOR_BYTES)));
  Bytes from{};
  for (int i = 0; i < int(kLanes * sizeof(Integer)); ++i)
    from[i] = uint8_t(i / int(sizeof(Integer)) * 4 + i % int(sizeof(Integer)));
  const Bytes narrow = __builtin_shuffle((Bytes)x, from);
#endif
  __builtin_memcpy(p, &narrow, kLanes * sizeof(Integer));
}

static inline bool any(Ints mask) {
  int32_t all = 0;
  for (int l = 0; l < kLanes; ++l) all |= mask[l];
  return all != 0;
}

static inline Floats select(Ints mask, Floats a, Floats b) { return mask ? a : b; }
static inline Floats min(Floats a, Floats b) { return a < b ? a : b; }
static inline Floats max(Floats a, Floats b) { return a > b ? a : b; }
static inline Floats abs(Floats x) { return (Floats)((Ints)x & 0x7fffffff); }
static inline Floats sqrt(Floats x) {
  Floats out{};
  for (int l = 0; l < kLanes; ++l) out[l] = __builtin_sqrtf(x[l]);
  return out;
}

/// Exchanges lanes and vectors.
static inline void transpose(Floats (&x)[kLanes]) {
#if defined(__clang__)
  for (int i = 0; i < kLanes; ++i)
    for (int l = 0; l < i; ++l) {
      const float other = x[i][l];
      x[i][l] = x[l][i], x[l][i] = other;
    }
#else
  // Vectors that are half of all apart are interleaved, as often as it takes to come round.
  Ints low{}, high{};
  for (int l = 0; l < kLanes; ++l) low[l] = l / 2 + l % 2 * kLanes, high[l] = low[l] + kLanes / 2;
#pragma GCC unroll 4
  for (int done = 1; done < kLanes; done *= 2) {
    Floats next[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = __builtin_shuffle(x[i], x[i + kLanes / 2], low);
      next[2 * i + 1] = __builtin_shuffle(x[i], x[i + kLanes / 2], high);
    }
    for (int i = 0; i < kLanes; ++i) x[i] = next[i];
  }
#endif
}

/// Entries 0 .. 7 of a table that is as wide as a vector at least, and aligned like one.
static inline Floats pick_of_8(const float* table, Ints index) {
#if NIBBLE_VECTOR_BYTES >= 32 && !defined(__clang__)
  return __builtin_shuffle(load(table), index);
#else
  Floats out;
  for (int l = 0; l < kLanes; ++l) out[l] = table[index[l]];
  return out;
#endif
}

/// a * b + c, rounded once.
static inline Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(NIBBLE_ISA_avx512)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(NIBBLE_ISA_avx2)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(NIBBLE_ISA_neon)
  return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  for (int l = 0; l < kLanes; ++l) c[l] = __builtin_fmaf(a[l], b[l], c[l]);
  return c;
#endif
}

/// To the nearest integer, ties to even; |x| < 2^22.
static inline Floats nearest_integer(Floats x) {
  constexpr float kMagic = 12582912;  // 1.5 * 2^23: its unit in the last place is 1
  return (x + kMagic) - kMagic;
}

/// 1 / x, and 0 where x is (nearly) 0.
static inline Floats inverse(Floats x) { return select(abs(x) > 1e-30f, 1 / x, Floats{}); }

/// a / b, and 0 where b is (nearly) 0 or negative.
static inline Floats ratio(Floats a, Floats b) { return select(b > 1e-30f, a / b, Floats{}); }

/// The nearest finite fp16 value, ties to even.
static inline Floats round_fp16(Floats x) {
  const Ints sign = (Ints)x & INT32_MIN, size = (Ints)x & 0x7fffffff;
  const Floats normal = (Floats)((size + 0xfff + (size >> 13 & 1)) & ~0x1fff);
  const Floats subnormal = ((Floats)size + 0.5f) - 0.5f;  // to a multiple of 2^-24
  const Floats rounded = min(select((Floats)size < 0x1p-14f, subnormal, normal), splat(65504));
  return (Floats)((Ints)rounded | sign);
}

/// The nearest bf16 value, ties to even.
static inline Floats round_bf16(Floats x) {
  const Ints bits = (Ints)x;
  return (Floats)((bits + 0x7fff + (bits >> 16 & 1)) & ~0xffff);
}

/// To an 8-bit float (E4M3) over 1024: 4 significant bits, or multiples of 2^-19.
static inline Floats round_e4m3(Floats x) {
  const Ints bits = (Ints)x;
  const Floats large = (Floats)((bits + 0x7ffff + (bits >> 20 & 1)) & ~0xfffff);
  const Floats small = (x + 24) - 24;  // the last bit of 24 is 2^-19
  const Floats size = x < 0 ? -x : x;
  return max(splat(-0.4375f), min(splat(0.4375f), select(size < 0x1p-16f, small, large)));
}

}  // namespace nibble::NIBBLE_ISA
