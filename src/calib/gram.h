// Sums of x x^T in bfloat16, in the form that is compiled once per instruction set: plain structs
// and raw pointers (see base/cpu.h and cmake/NibbleRegister.cmake).
#pragma once

#include <stdint.h>

namespace nibble {

inline constexpr int kGramColumns = 32;  // of a panel
inline constexpr int kGramTokens = 256;  // of a panel at most: two of them fit the first cache

/// Null functions: the instruction set has no such products.
///
/// Products of bfloat16 values are exact in float32, and processors that add them in pairs need
/// half the time. Inputs keep 8 bits, as between two blocks; sums are float32.
struct Gram {
  const char* isa;
  /// Columns [0, columns) of `tokens` rows become a panel[(tokens + 1) / 2][kGramColumns] of pairs:
  /// two tokens of one column beside each other. What is missing becomes zero. largest[columns]
  /// becomes the largest |value| that it or the column has.
  void (*pack)(const float* values, int64_t stride, int64_t tokens, int columns, uint32_t* panel,
               float* largest);
  /// out[a_columns][b_columns] += the products of the columns of two panels.
  void (*add)(const uint32_t* a, int a_columns, const uint32_t* b, int b_columns, int64_t pairs,
              float* out, int64_t stride);
};

}  // namespace nibble
