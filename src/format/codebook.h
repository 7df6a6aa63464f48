// Columns that are coded together: not every combination of levels has a code.
#pragma once

#include <cstdint>
#include <span>

namespace nibble {

/// Columns of a codebook that share one code.
inline constexpr int kGroup = 8;

/// The combinations of levels that a group of 8 consecutive columns can have. One or two points
/// name the sizes of their columns, and signs may be added. A Code holds the number of the first
/// point in bits 0..11 (with its bank on top: number + points * bank), that of the second in bits
/// 12..23, and in bit 24 + i whether column i is negative.
struct Codebook {
  enum class Signs {
    none,  // the points have all there is
    free,
    even,  // an even number of columns is negative
  };
  std::span<const std::uint16_t> points;  // a digit a column, the first column lowest
  int width;                              // columns a point: 8 or 4
  int digit_bits;                         // of a digit: 2 or 3
  std::span<const std::int8_t> values;    // the level of each digit, bank after bank
  int banks = 1;                          // sets of values
  int bank_columns = kGroup;              // columns that have the same bank
  Signs signs = Signs::none;

  int digits() const { return int(values.size()) / banks; }
  int codes_a_point() const { return int(points.size()) * banks; }

  /// The levels of a group.
  void levels(std::uint32_t code, std::int8_t* out) const {
    const std::uint32_t count = std::uint32_t(points.size()), mask = (1u << digit_bits) - 1;
    for (int begin = 0; begin < kGroup; begin += width) {
      const std::uint32_t number = code >> (12 * (begin / width)) & 0xfff, bank = number / count;
      const std::int8_t* levels = values.data() + bank * std::uint32_t(digits());
      std::uint32_t point = points[number - bank * count];
      for (int i = begin; i < begin + width; ++i, point >>= digit_bits) {
        const std::int8_t level = levels[point & mask];
        out[i] = code >> (24 + i) & 1 ? std::int8_t(-level) : level;
      }
    }
  }
};

/// 8 signs of which an even number is set, from the 7 that are stored.
inline std::uint32_t even_signs(std::uint32_t stored) {
  stored &= 127;
  return stored | std::uint32_t(__builtin_parity(stored)) << 7;
}

}  // namespace nibble
