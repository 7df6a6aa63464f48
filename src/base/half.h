// 16-bit floating point: IEEE binary16 (fp16) and bfloat16, rounded to nearest even.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace nibble {

inline float bf16_to_f32(std::uint16_t h) { return std::bit_cast<float>(std::uint32_t(h) << 16); }

inline std::uint16_t f32_to_bf16(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  if ((u & 0x7fffffff) > 0x7f800000) return std::uint16_t((u >> 16) | 64);  // NaN stays NaN, quiet
  return std::uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

/// Without branches, so that loops over it become vector code.
inline float fp16_to_f32(std::uint16_t h) {
  const std::uint32_t sign = std::uint32_t(h & 0x8000) << 16;
  const std::uint32_t rest = std::uint32_t(h & 0x7fff) << 13;
  // The exponent is 112 too small; the multiplication is exact, also for subnormal numbers.
  const float value = std::bit_cast<float>(rest) * 0x1p112f;
  const std::uint32_t finite = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t special = rest >= 0x0f800000 ? 0x7f800000 : 0;  // infinity and NaN
  return std::bit_cast<float>(sign | finite | special);
}

inline std::uint16_t f32_to_fp16(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  const std::uint16_t sign = std::uint16_t(u >> 16 & 0x8000);
  const std::uint32_t rest = u & 0x7fffffff;
  if (rest > 0x7f800000) return std::uint16_t(sign | 0x7e00);
  if (rest >= 0x477ff000) return std::uint16_t(sign | 0x7c00);  // 65520 and above round to infinity
  if (rest < 0x38800000) {  // below 2^-14: the addition rounds to a multiple of 2^-24
    const float shifted = std::bit_cast<float>(rest) + 0.5f;
    return std::uint16_t(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000));
  }
  return std::uint16_t(sign | ((rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13));
}

}  // namespace nibble
