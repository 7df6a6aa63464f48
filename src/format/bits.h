// Reading and writing the fields of a block (little-endian).
#pragma once

#include <cstdint>
#include <cstring>

#include "base/half.h"

namespace nibble {

inline std::uint8_t get_u8(const std::byte* in) { return std::uint8_t(*in); }

inline std::uint16_t get_u16(const std::byte* in) {
  return std::uint16_t(get_u8(in) | get_u8(in + 1) << 8);
}

inline void put_u16(std::byte* out, std::uint16_t x) {
  out[0] = std::byte(x & 255);
  out[1] = std::byte(x >> 8);
}

inline float get_fp16(const std::byte* in) { return fp16_to_f32(get_u16(in)); }
inline void put_fp16(std::byte* out, float x) { put_u16(out, f32_to_fp16(x)); }

}  // namespace nibble
