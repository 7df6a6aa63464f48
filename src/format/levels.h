// Tables of levels that several formats share.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace nibble {

/// first, first + 1, ..., `kCount` of them.
template <int kFirst, int kCount>
constexpr std::array<std::int8_t, kCount> consecutive_levels() {
  std::array<std::int8_t, kCount> levels{};
  for (int i = 0; i < kCount; ++i) levels[i] = std::int8_t(kFirst + i);
  return levels;
}

/// The 16 levels of IQ4_NL and IQ4_XS: dense around zero, as weights are.
inline constexpr std::array<std::int8_t, 16> kIq4Levels = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/// Integers in a row.
inline bool consecutive(std::span<const std::int8_t> levels) {
  return !levels.empty() && levels.back() - levels.front() == int(levels.size()) - 1;
}

/// Twice the floats of 4 bits (sign, 2 bits of exponent, 1 of mantissa): MXFP4, NVFP4. Codes are in
/// the order of levels, the two zeros in the middle.
inline constexpr std::array<std::int8_t, 16> kFloat4Levels = {-12, -8, -6, -4, -3, -2, -1, 0,
                                                              0,   1,  2,  3,  4,  6,  8,  12};

constexpr std::uint32_t float4_bits(std::uint32_t code) { return code ^ (code < 8 ? 15u : 8u); }
constexpr std::uint32_t float4_code(std::uint32_t bits) { return bits ^ (bits < 8 ? 8u : 15u); }

/// The same for floats of 8 bits (E4M3) without the two that are no number.
constexpr std::uint32_t fp8_bits(std::uint32_t code) {
  return code < 127 ? 0x80u | (126 - code) : code - 127;
}
constexpr std::uint32_t fp8_code(std::uint32_t bits) {
  return bits < 0x80 ? 127 + bits : 126 - (bits & 0x7f);
}

/// The sizes, ascending, and before them the same below zero.
template <std::size_t kCount>
constexpr std::array<std::int8_t, 2 * kCount> both_signs(
    const std::array<std::int8_t, kCount>& sizes) {
  std::array<std::int8_t, 2 * kCount> levels{};
  for (std::size_t i = 0; i < kCount; ++i) {
    levels[kCount - 1 - i] = std::int8_t(-sizes[i]);
    levels[kCount + i] = sizes[i];
  }
  return levels;
}

/// IQ2_XXS, IQ2_XS, IQ2_S.
inline constexpr std::array<std::int8_t, 3> kThreeSizes = {8, 25, 43};
inline constexpr auto kSixLevels = both_signs(kThreeSizes);

/// IQ1_S, IQ1_M: eight times -1, 0, 1, shifted by 1 (first bank) or by -1.
inline constexpr std::array<std::int8_t, 6> kTernaryBanks = {-7, 1, 9, -9, -1, 7};
inline constexpr std::array<std::int8_t, 6> kTernaryLevels = {-9, -7, -1, 1, 7, 9};

}  // namespace nibble
