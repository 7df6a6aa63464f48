// Products of packed weights, one implementation for each kind of packing and instruction set.
//
// Kernel files include intrinsics, C headers and this header only: an inline std:: function
// compiled with AVX-512 flags could be picked by the linker for everybody. So: plain structs, raw
// pointers.
//
// Packed weights are panels of `kPanelRows` rows, interleaved so that one vector holds the same
// columns of all rows of a panel: sums run down the lanes and never across them, and their order is
// the same on every instruction set.
#pragma once

#include <stdint.h>

namespace nibble {

inline constexpr int kPanelRows = 16;

/// How the weights of a panel lie in memory. A new kind is one new kernel file.
enum class Packing : int {
  f32,   // [columns][16] float
  f16,   // [columns][16] fp16
  bf16,  // [columns][16] bf16
  w8,    // [columns/4][16][4] int8 levels, and [columns/sub][16] scale and offset
  w4,    // 4-bit codes, and the levels they name, and [columns/sub][16] scale and offset
};

/// One packed matrix: rows are padded with zeros to whole panels.
struct PackedView {
  Packing packing;
  int64_t rows, columns;
  int sub;                 // columns a scale: 16 or 32 (w8, w4)
  const uint8_t* weights;  // panels one after the other, 64-byte aligned
  const float* scales;     // [panel][columns/sub][16], what multiplies a level
  const float* offsets;    // the same shape, what is added; null: none
  int8_t levels[16];       // w4: level of each code
};

/// The inputs of a product: `tokens` rows of `columns` values.
struct InputView {
  int64_t tokens, columns;
  const float* values;  // [tokens][columns]
  const int8_t*
      codes;  // [tokens][columns] rounded to 8 bits, or null: then the product is with `values`
  const float* scales;  // [tokens][columns/32]
  const float*
      sums;  // [tokens][columns/16] sum of values of each 16 columns as the codes hold them
};

struct Kernel {
  const char* isa;
  Packing packing;
  /// out[t * out_stride + r] = sum_j W[r][j] x[t][j] for all tokens and the rows of panels [begin,
  /// end). Uses input->codes where they are not null (w8, w4), else input->values. `scratch` has
  /// scratch_bytes, one a thread.
  void (*multiply)(const PackedView* w, const InputView* input, int64_t begin, int64_t end,
                   float* out, int64_t out_stride, void* scratch);
  int64_t (*scratch_bytes)(const PackedView* w);
};

}  // namespace nibble
