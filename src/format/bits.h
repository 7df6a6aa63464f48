// Reading and writing the fields of a block (little-endian).
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/clones.h"
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

inline std::uint32_t get_u32(const std::byte* in) {
  return get_u16(in) | std::uint32_t(get_u16(in + 2)) << 16;
}

inline void put_u32(std::byte* out, std::uint32_t x) {
  put_u16(out, std::uint16_t(x));
  put_u16(out + 2, std::uint16_t(x >> 16));
}

inline float get_f32(const std::byte* in) { return std::bit_cast<float>(get_u32(in)); }
inline void put_f32(std::byte* out, float x) { put_u32(out, std::bit_cast<std::uint32_t>(x)); }

inline constexpr float kLargestE4m3 = 448;

/// An 8-bit float with 4 bits of exponent and 3 of mantissa (OCP FP8 E4M3).
inline float e4m3_to_f32(std::uint8_t bits) {
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  const float size = (bits & 0x7f) == 0x7f ? NAN
                     : exponent == 0       ? std::ldexp(float(mantissa), -9)
                                           : std::ldexp(float(8 + mantissa), exponent - 10);
  return bits & 0x80 ? -size : size;
}

/// The nearest; beyond the largest that.
inline std::uint8_t f32_to_e4m3(float x) {
  const float size = std::min(std::fabs(x), kLargestE4m3);
  int exponent = 0;
  const float part = std::frexp(size, &exponent);
  const long bits =
      size < 0x1p-6f ? std::lrint(size * 512) : (exponent + 6) * 8 + std::lrint(part * 16) - 8;
  return std::uint8_t(bits | (std::signbit(x) ? 0x80 : 0));
}

inline float get_fp16(const std::byte* in) { return fp16_to_f32(get_u16(in)); }
inline void put_fp16(std::byte* out, float x) { put_u16(out, f32_to_fp16(x)); }

// Bit fields as every block here lays them: runs of kBytes bytes, each run holding the fields of
// kBytes * (8 / kBits) consecutive items. Byte i of a run holds item i in its lowest kBits bits,
// item kBytes + i in the next ones, and so on. An item's field is its bits kShift .. kShift +
// kBits - 1. (Static, since what is chosen when a program starts cannot be shared between files.)

template <int kBits, int kBytes, int kShift = 0, class Item>
NIBBLE_CLONES static void put_fields(const Item* items, int count, std::byte* out) {
  constexpr unsigned mask = (1u << kBits) - 1;
  for (; count > 0; count -= kBytes * (8 / kBits), items += kBytes * (8 / kBits), out += kBytes)
    for (int i = 0; i < kBytes; ++i) {
      unsigned byte = 0;
      for (int f = 0; f < 8 / kBits; ++f)
        byte |= (unsigned(items[f * kBytes + i]) >> kShift & mask) << (f * kBits);
      out[i] = std::byte(byte);
    }
}

/// The inverse. With kShift > 0 the field is put on top of what `items` holds already.
template <int kBits, int kBytes, int kShift = 0, class Item>
NIBBLE_CLONES static void get_fields(const std::byte* in, int count, Item* items) {
  constexpr unsigned mask = (1u << kBits) - 1;
  for (; count > 0; count -= kBytes * (8 / kBits), items += kBytes * (8 / kBits), in += kBytes) {
#pragma GCC unroll 8
    for (int f = 0; f < 8 / kBits; ++f)  // shifts by constants are those that bytes can do
      for (int i = 0; i < kBytes; ++i) {
        const unsigned field = unsigned(get_u8(in + i)) >> (f * kBits) & mask;
        Item& item = items[f * kBytes + i];
        item = Item(kShift == 0 ? field : (unsigned(item) | field << kShift));
      }
  }
}

}  // namespace nibble
