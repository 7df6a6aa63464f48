// Tables of levels that several formats share.
#pragma once

#include <array>
#include <cstdint>

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

}  // namespace nibble
