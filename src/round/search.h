// The search for the scales and codes of blocks, in the form that is compiled once per instruction
// set: plain structs and raw pointers (see base/cpu.h and cmake/NibbleRegister.cmake).
#pragma once

#include <stdint.h>

namespace nibble {

/// Rows that are searched together.
inline constexpr int kStripRows = 32;

/// The points of a codebook sorted by their first half, in runs of whole fours: the last of a run
/// is repeated. Halves are numbered by their digits, the first column lowest.
struct PointRuns {
  static constexpr int kMostHalves = 81, kMostPoints = 2048 + 3 * kMostHalves;
  int halves, count;               // possible halves; runs
  uint8_t digits[kMostHalves];     // of each half, as in the book
  uint8_t first[kMostHalves];      // the first half of a run
  int16_t begin[kMostHalves + 1];  // of a run, in:
  uint8_t second[kMostPoints];     // the second half of a sorted point
  int16_t number[kMostPoints];     // where the book has it
  uint8_t run_of[kMostHalves];     // the run of each first half
};

/// A codebook (see format/codebook.h), or none.
struct PointSpec {
  enum Signs { kNone, kFree, kEven };
  const uint16_t* points;
  int count;                      // points; 0: there is no codebook
  int width, digit_bits, digits;  // columns a point; of a column
  int banks, bank_columns;
  const int8_t* values;  // [banks][digits]
  const PointRuns* runs;
  Signs signs;
};

/// What the search knows of a format.
struct SearchSpec {
  enum Number { kFp16, kBf16, kF32, kPower, kEightBits };
  enum Levels { kConsecutive, kTable, kE4m3 };  // integers in a row; 16 of any kind; all of fp8
  int block, sub;                               // columns
  Number number;
  bool nested, has_offset, zero_point, whole_row;  // as in Layout
  float scale_min, scale_max, scale_step, unit, offset_max;
  int first_code, level_count;
  Levels kind;
  bool favour_large;  // an error counts more on larger weights
  bool clip;          // scales that clip the largest weights a lot are tried too
  const float* levels;
  PointSpec book;
};

/// The block of each of the strip's rows: stored scales and codes (of columns, or of groups).
struct alignas(64) SearchResult {
  float d[kStripRows], dmin[kStripRows];
  int16_t sub_scale[16][kStripRows], sub_min[16][kStripRows];
  uint8_t codes[256][kStripRows];
  uint32_t groups[32][kStripRows];
};

/// Weighted sums over the columns of a block, with the levels q that given scales give.
struct alignas(64) BlockSums {
  float qq[kStripRows], q[kStripRows], xq[kStripRows], error[kStripRows];
};

struct BlockSearch {
  const char* isa;
  bool joint;  // for formats with a codebook
  /// Minimises sum_j h_j (x_j - q_j)^2 for each of the rows. x: [block][kStripRows], finite; h:
  /// [block], positive, around 1. Both 64-byte aligned.
  void (*run)(const SearchSpec* spec, const float* x, const float* h, SearchResult* out);
  /// The sums under the scales that `found` has, whose codes become those levels. Not for nested
  /// formats, nor those with a codebook.
  void (*measure)(const SearchSpec* spec, const float* x, const float* h, SearchResult* found,
                  BlockSums* sums);
};

}  // namespace nibble
