// Sixteen lanes as four NEON registers, with the dot product extension. See simd.h.
#pragma once

#include <arm_neon.h>

namespace nibble::NIBBLE_ISA {

struct F {
  float32x4_t v[4];
};
struct I {
  int32x4_t v[4];
};
struct Codes {
  uint8x16_t v[4];  // four rows each
};

/// f applied to each of the four registers.
template <class R, class Fn>
NIBBLE_INLINE R each(const Fn& f) {
  return {{f(0), f(1), f(2), f(3)}};
}
#define NIBBLE_EACH(R, expression) \
  each<R>([&](int i) __attribute__((always_inline)) { return expression; })

NIBBLE_INLINE F splat(float x) { return NIBBLE_EACH(F, (void(i), vdupq_n_f32(x))); }
NIBBLE_INLINE F zero() { return splat(0); }
NIBBLE_INLINE F load(const float* p) { return NIBBLE_EACH(F, vld1q_f32(p + 4 * i)); }
NIBBLE_INLINE void store(float* p, F x) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, x.v[i]);
}
NIBBLE_INLINE F add(F x, F y) { return NIBBLE_EACH(F, vaddq_f32(x.v[i], y.v[i])); }
NIBBLE_INLINE F sub(F x, F y) { return NIBBLE_EACH(F, vsubq_f32(x.v[i], y.v[i])); }
NIBBLE_INLINE F mul(F x, F y) { return NIBBLE_EACH(F, vmulq_f32(x.v[i], y.v[i])); }
NIBBLE_INLINE F div(F x, F y) { return NIBBLE_EACH(F, vdivq_f32(x.v[i], y.v[i])); }
NIBBLE_INLINE F max(F x, F y) { return NIBBLE_EACH(F, vmaxq_f32(x.v[i], y.v[i])); }
NIBBLE_INLINE F min(F x, F y) { return NIBBLE_EACH(F, vminq_f32(x.v[i], y.v[i])); }
NIBBLE_INLINE F fma(F x, F y, F z) { return NIBBLE_EACH(F, vfmaq_f32(z.v[i], x.v[i], y.v[i])); }

NIBBLE_INLINE F power_of_two(F x) {
  return NIBBLE_EACH(
      F, vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x.v[i]), vdupq_n_u32(0x7f800000))));
}

NIBBLE_INLINE float hsum(F x) {
  const float32x4_t s = vaddq_f32(vaddq_f32(x.v[0], x.v[2]), vaddq_f32(x.v[1], x.v[3]));
  const float32x2_t t = vadd_f32(vget_low_f32(s), vget_high_f32(s));
  return vget_lane_f32(t, 0) + vget_lane_f32(t, 1);
}
NIBBLE_INLINE float hmax(F x) {
  return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.v[0], x.v[2]), vmaxq_f32(x.v[1], x.v[3])));
}

NIBBLE_INLINE F load_fp16(const uint16_t* p) {
  return NIBBLE_EACH(F, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))));
}
NIBBLE_INLINE F load_bf16(const uint16_t* p) {
  return NIBBLE_EACH(F, vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)));
}
NIBBLE_INLINE void store_fp16(uint16_t* p, F x) {
  for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.v[i])));
}

NIBBLE_INLINE I splat_int(int32_t x) { return NIBBLE_EACH(I, (void(i), vdupq_n_s32(x))); }
NIBBLE_INLINE I add_int(I x, I y) { return NIBBLE_EACH(I, vaddq_s32(x.v[i], y.v[i])); }
NIBBLE_INLINE I mul_int(I x, I y) { return NIBBLE_EACH(I, vmulq_s32(x.v[i], y.v[i])); }
NIBBLE_INLINE F as_float(I x) { return NIBBLE_EACH(F, vreinterpretq_f32_s32(x.v[i])); }
NIBBLE_INLINE F to_float(I x) { return NIBBLE_EACH(F, vcvtq_f32_s32(x.v[i])); }
NIBBLE_INLINE I round_int(F x) { return NIBBLE_EACH(I, vcvtnq_s32_f32(x.v[i])); }
NIBBLE_INLINE F pow2(I n) {
  return NIBBLE_EACH(F,
                     vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n.v[i], vdupq_n_s32(127)), 23)));
}
NIBBLE_INLINE I widen(int8x16_t x) {
  const int16x8_t lo = vmovl_s8(vget_low_s8(x)), hi = vmovl_s8(vget_high_s8(x));
  return {{vmovl_s16(vget_low_s16(lo)), vmovl_s16(vget_high_s16(lo)), vmovl_s16(vget_low_s16(hi)),
           vmovl_s16(vget_high_s16(hi))}};
}
NIBBLE_INLINE I load_i8(const int8_t* p) { return widen(vld1q_s8(p)); }
NIBBLE_INLINE I load_u8(const uint8_t* p) {
  const uint8x16_t x = vld1q_u8(p);
  const int16x8_t lo = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(x)));
  const int16x8_t hi = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(x)));
  return {{vmovl_s16(vget_low_s16(lo)), vmovl_s16(vget_high_s16(lo)), vmovl_s16(vget_low_s16(hi)),
           vmovl_s16(vget_high_s16(hi))}};
}
/// Rows 4 i to 4 i + 3 in v[i], two 16-bit lanes each.
NIBBLE_INLINE I load_pairs(const uint8_t* p) {
  const uint8x16_t x = vld1q_u8(p), y = vld1q_u8(p + 16);
  const uint8x16_t lo = vzip1q_u8(x, y), hi = vzip2q_u8(x, y);
  return {{vreinterpretq_s32_u16(vmovl_u8(vget_low_u8(lo))),
           vreinterpretq_s32_u16(vmovl_u8(vget_high_u8(lo))),
           vreinterpretq_s32_u16(vmovl_u8(vget_low_u8(hi))),
           vreinterpretq_s32_u16(vmovl_u8(vget_high_u8(hi)))}};
}
NIBBLE_INLINE I dot_pairs(I sum, I pairs, int32_t x) {
  const int16x8_t x2 = vreinterpretq_s16_s32(vdupq_n_s32(x));
  for (int i = 0; i < 4; ++i) {
    const int16x8_t p = vreinterpretq_s16_s32(pairs.v[i]);
    const int32x4_t lo = vmull_s16(vget_low_s16(p), vget_low_s16(x2));
    sum.v[i] = vaddq_s32(sum.v[i], vpaddq_s32(lo, vmull_high_s16(p, x2)));
  }
  return sum;
}
NIBBLE_INLINE int32_t store_codes(int8_t* p, I x) {
  const int16x8_t lo = vcombine_s16(vqmovn_s32(x.v[0]), vqmovn_s32(x.v[1]));
  const int16x8_t hi = vcombine_s16(vqmovn_s32(x.v[2]), vqmovn_s32(x.v[3]));
  vst1q_s8(p, vcombine_s8(vqmovn_s16(lo), vqmovn_s16(hi)));
  return vaddlvq_s16(vaddq_s16(lo, hi));
}

NIBBLE_INLINE Codes load_codes(const uint8_t* p) {
  return NIBBLE_EACH(Codes, vld1q_u8(p + 16 * i));
}
NIBBLE_INLINE void store_bytes(uint8_t* p, Codes c) {
  for (int i = 0; i < 4; ++i) vst1q_u8(p + 16 * i, c.v[i]);
}
NIBBLE_INLINE Codes move_bits(Codes c, int by, int mask) {
  return NIBBLE_EACH(Codes,
                     vandq_u8(vshlq_u8(c.v[i], vdupq_n_s8(int8_t(by))), vdupq_n_u8(uint8_t(mask))));
}
NIBBLE_INLINE Codes merge_bits(Codes x, Codes c, int by, int mask) {
  const Codes y = move_bits(c, by, mask);
  return NIBBLE_EACH(Codes, vorrq_u8(x.v[i], y.v[i]));
}
NIBBLE_INLINE Codes lookup(Codes c, const uint8_t* table) {
  const uint8x16_t t = vld1q_u8(table);
  return NIBBLE_EACH(Codes, vqtbl1q_u8(t, c.v[i]));
}
NIBBLE_INLINE I column(const Codes& c, int j) {
  const int32x4_t shift = vdupq_n_s32(-8 * j);
  return NIBBLE_EACH(I, vreinterpretq_s32_u32(vandq_u32(
                            vshlq_u32(vreinterpretq_u32_u8(c.v[i]), shift), vdupq_n_u32(255))));
}

/// Signed times signed bytes: codes up to 127 as they are, others less `Shift`.
template <int Shift>
struct Dot {
  using Input = int8_t;
  static constexpr int kShift = Shift, kSteps = 2, kTokens = 4;
  static const Input* inputs(const int8_t* codes, int64_t, void*) { return codes; }
  NIBBLE_METHOD static Codes operand(int step, const Codes& c0, const Codes& c1) {
    const Codes& c = step == 0 ? c0 : c1;
    return NIBBLE_EACH(Codes, Shift == 0 ? c.v[i] : veorq_u8(c.v[i], vdupq_n_u8(Shift)));
  }
  int32x4_t v[4];
  NIBBLE_METHOD void start(int32_t lacks) {
    for (int i = 0; i < 4; ++i) v[i] = vdupq_n_s32(lacks);
  }
  NIBBLE_METHOD void add(const Codes& c, const uint8_t* x, int64_t) {
    int32_t x4;
    memcpy(&x4, x, 4);
    const int8x16_t all = vreinterpretq_s8_s32(vdupq_n_s32(x4));
    for (int i = 0; i < 4; ++i) v[i] = vdotq_s32(v[i], vreinterpretq_s8_u8(c.v[i]), all);
  }
  NIBBLE_METHOD void settle() {}
  NIBBLE_METHOD I total(int32_t) const { return {{v[0], v[1], v[2], v[3]}}; }
};
using DotSmall = Dot<0>;
using DotMedium = Dot<0>;
using DotLarge = Dot<0>;
using DotWide = Dot<128>;

inline constexpr bool kScalesCodes = true;
struct CodeScale {
  Codes scale, offset;
  NIBBLE_METHOD CodeScale(I s, int32_t bias, int32_t least)
      : scale(bytes(s)), offset(bytes(add_int(mul_int(s, splat_int(bias)), splat_int(-least)))) {}
  NIBBLE_METHOD Codes of(const Codes& c) const {
    return NIBBLE_EACH(Codes, vmlaq_u8(offset.v[i], c.v[i], scale.v[i]));
  }

 private:
  /// The low 8 bits of a row's number for each of its columns.
  NIBBLE_METHOD static Codes bytes(I x) {
    return NIBBLE_EACH(
        Codes, vreinterpretq_u8_s32(vmulq_n_s32(vandq_s32(x.v[i], vdupq_n_s32(255)), 0x01010101)));
  }
};
inline constexpr int kTile = 4, kTilePanels = 1, kTokensInPlace = 4;

}  // namespace nibble::NIBBLE_ISA

#include "kernel/step_bf16.h"
