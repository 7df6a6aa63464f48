// Sixteen lanes in plain C++ (GCC vector types), for processors without a kernel of their own. See
// simd.h.
#pragma once

namespace nibble::NIBBLE_ISA {

typedef float F __attribute__((vector_size(64)));
typedef int32_t I __attribute__((vector_size(64)));
typedef uint32_t U __attribute__((vector_size(64)));
struct Codes {
  uint8_t at[64];
};

NIBBLE_INLINE F splat(float x) { return x - F{}; }
NIBBLE_INLINE F zero() { return F{}; }
NIBBLE_INLINE F load(const float* p) {
  F x;
  memcpy(&x, p, sizeof x);
  return x;
}
NIBBLE_INLINE void store(float* p, F x) { memcpy(p, &x, sizeof x); }
NIBBLE_INLINE F add(F a, F b) { return a + b; }
NIBBLE_INLINE F sub(F a, F b) { return a - b; }
NIBBLE_INLINE F mul(F a, F b) { return a * b; }
NIBBLE_INLINE F div(F a, F b) { return a / b; }

/// a * b + c, rounded once. The product is exact in double; the sum is rounded to odd, so that the
/// rounding to float sees on which side of a tie it lies (Boldo and Melquiond 2008). Out of line:
/// it is so long that inlining gains nothing and costs minutes of compile time.
[[gnu::noinline]] inline F fma(F a, F b, F c) {
  typedef double D __attribute__((vector_size(128)));
  typedef int64_t L __attribute__((vector_size(128)));
  const D product = __builtin_convertvector(a, D) * __builtin_convertvector(b, D);
  const D addend = __builtin_convertvector(c, D), sum = product + addend;
  const D part = sum - product, rest = (product - (sum - part)) + (addend - part);
  const L up = (rest > 0) == (sum > 0), inexact = (rest > 0) | (rest < 0);
  const L even = ((L)sum & 1) - 1;  // all bits, or none
  return __builtin_convertvector((D)((L)sum + (inexact & even & ((up & 2) - 1))), F);
}

NIBBLE_INLINE F max(F a, F b) { return a > b ? a : b; }
NIBBLE_INLINE F min(F a, F b) { return a < b ? a : b; }

NIBBLE_INLINE F power_of_two(F x) { return (F)((U)x & 0x7f800000u); }

NIBBLE_INLINE float hsum(F x) {
  float s[8];
  for (int i = 0; i < 8; ++i) s[i] = x[i] + x[i + 8];
  for (int n = 4; n > 0; n /= 2)
    for (int i = 0; i < n; ++i) s[i] += s[i + n];
  return s[0];
}
NIBBLE_INLINE float hmax(F x) {
  float m = x[0];
  for (int i = 1; i < 16; ++i) m = m > x[i] ? m : x[i];
  return m;
}

// fp16: normal numbers are shifted into place; what was subnormal is made right by a product with
// 2^112, which is exact.
NIBBLE_INLINE F load_fp16(const uint16_t* p) {
  U u;
  for (int i = 0; i < 16; ++i) u[i] = p[i];
  const U sign = (u & 0x8000u) << 16, rest = (u & 0x7fffu) << 13;
  const F value = (F)rest * splat(0x1p112f);
  const U special = rest | 0x7f800000u;
  const U is_special = (U)(rest >= 0x0f800000u);
  return (F)(sign | (is_special & special) | (~is_special & (U)value));
}
NIBBLE_INLINE F load_bf16(const uint16_t* p) {
  U u{};
  for (int i = 0; i < 16; ++i) u[i] = uint32_t(p[i]) << 16;
  return (F)u;
}
NIBBLE_INLINE void store_fp16(uint16_t* p, F x) {
  const U u = (U)x, sign = (u >> 16) & 0x8000u, rest = u & 0x7fffffffu;
  const U normal = (rest - (112u << 23) + 0xfffu + ((rest >> 13) & 1u)) >> 13;
  const U small = (U)((F)rest + splat(0.5f)) - 0x3f000000u;
  for (int i = 0; i < 16; ++i) {
    uint32_t h = rest[i] < 0x38800000u ? small[i] : normal[i];
    if (rest[i] >= 0x477ff000u) h = rest[i] > 0x7f800000u ? 0x7e00u : 0x7c00u;
    p[i] = uint16_t(sign[i] | h);
  }
}

NIBBLE_INLINE I splat_int(int32_t x) { return x - I{}; }
NIBBLE_INLINE I add_int(I a, I b) { return a + b; }
NIBBLE_INLINE I mul_int(I a, I b) { return a * b; }
NIBBLE_INLINE F as_float(I x) { return (F)x; }
NIBBLE_INLINE F to_float(I x) { return __builtin_convertvector(x, F); }
NIBBLE_INLINE I round_int(F x) {  // |x| < 2^22: the sum rounds to an integer
  return (I)(x + splat(0x1.8p23f)) - 0x4b400000;
}
NIBBLE_INLINE F pow2(I n) { return (F)((n + 127) << 23); }
NIBBLE_INLINE I load_i8(const int8_t* p) {
  I x;
  for (int i = 0; i < 16; ++i) x[i] = p[i];
  return x;
}
NIBBLE_INLINE I load_u8(const uint8_t* p) {
  I x;
  for (int i = 0; i < 16; ++i) x[i] = p[i];
  return x;
}
NIBBLE_INLINE I load_pairs(const uint8_t* p) { return load_u8(p) | load_u8(p + 16) << 16; }
NIBBLE_INLINE I dot_pairs(I sum, I pairs, int32_t x) {
  return sum + (pairs & 0xffff) * int16_t(x) + (pairs >> 16) * (x >> 16);
}
/// Stores lanes of -127..127 as bytes and returns their sum.
NIBBLE_INLINE int32_t store_codes(int8_t* p, I x) {
  int32_t sum = 0;
  for (int i = 0; i < 16; ++i) p[i] = int8_t(x[i]), sum += x[i];
  return sum;
}

NIBBLE_INLINE Codes load_codes(const uint8_t* p) {
  Codes c;
  memcpy(c.at, p, 64);
  return c;
}
NIBBLE_INLINE void store_bytes(uint8_t* p, Codes c) { memcpy(p, c.at, 64); }
NIBBLE_INLINE Codes move_bits(Codes c, int by, int mask) {
  for (int i = 0; i < 64; ++i) c.at[i] = uint8_t((by > 0 ? c.at[i] << by : c.at[i] >> -by) & mask);
  return c;
}
NIBBLE_INLINE Codes merge_bits(Codes x, const Codes& c, int by, int mask) {
  const Codes y = move_bits(c, by, mask);
  for (int i = 0; i < 64; ++i) x.at[i] |= y.at[i];
  return x;
}
NIBBLE_INLINE Codes lookup(Codes c, const uint8_t* table) {
  for (int i = 0; i < 64; ++i) c.at[i] = table[c.at[i]];
  return c;
}
/// The codes of column 0..3 of the 16 rows.
NIBBLE_INLINE I column(const Codes& c, int j) {
  I x;
  for (int i = 0; i < 16; ++i) x[i] = c.at[4 * i + j];
  return x;
}

inline constexpr int kTile = 2, kTilePanels = 1, kTokensInPlace = 1;

struct DotWide {
  using Input = int8_t;
  static constexpr int kShift = 0, kSteps = 2, kTokens = kTile;
  static const Input* inputs(const int8_t* codes, int64_t, void*) { return codes; }
  NIBBLE_METHOD static Codes operand(int step, const Codes& c0, const Codes& c1) {
    return step == 0 ? c0 : c1;
  }
  I sum;
  NIBBLE_METHOD void start(int32_t lacks) { sum = splat_int(lacks); }
  NIBBLE_METHOD void add(const Codes& c, const uint8_t* bytes, int64_t) {
    Input x[4];
    memcpy(x, bytes, sizeof x);
    for (int i = 0; i < 16; ++i)
      sum[i] += c.at[4 * i] * x[0] + c.at[4 * i + 1] * x[1] + c.at[4 * i + 2] * x[2] +
                c.at[4 * i + 3] * x[3];
  }
  NIBBLE_METHOD void settle() {}
  NIBBLE_METHOD I total(int32_t) const { return sum; }
};
using DotSmall = DotWide;
using DotMedium = DotWide;
using DotLarge = DotWide;

inline constexpr bool kScalesCodes = true;
struct CodeScale {
  I scale, offset;
  NIBBLE_METHOD CodeScale(I s, int32_t bias, int32_t least) : scale(s), offset(s * bias - least) {}
  NIBBLE_METHOD Codes of(Codes c) const {
    for (int i = 0; i < 64; ++i) c.at[i] = uint8_t(c.at[i] * scale[i / 4] + offset[i / 4]);
    return c;
  }
};

}  // namespace nibble::NIBBLE_ISA

#include "kernel/step_bf16.h"
