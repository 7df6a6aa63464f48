// Products of packed weights, one implementation for each kind of packing and instruction set.
//
// Kernel files include intrinsics, C headers and this folder's C-only headers: an inline std::
// function compiled with AVX-512 flags could be picked by the linker for everybody. So: plain
// structs, raw pointers.
//
// Packed weights are panels of `kPanelRows` rows, interleaved so that one vector holds the same
// columns of all rows of a panel: sums run down the lanes and never across them, and their order is
// the same on every instruction set.
//
// Quantized weights keep the scales of their format as they were stored (fp16 and small integers),
// for a product with one token is bound by the bytes read. A weight is scale * level + offset with
// level = code + bias, so products of codes are unsigned times signed, as the processors have them.
#pragma once

#include <stdint.h>

namespace nibble {

inline constexpr int kPanelRows = 16;
inline constexpr int kUnitColumns = 32;  // of codes

/// How the weights of a panel lie in memory. A new kind is one new kernel file.
enum class Packing : int {
  f32,   // [columns][16] float
  f16,   // [columns][16] fp16
  bf16,  // [columns][16] bf16
  w8,
  w6,
  w5,
  w4,
  w3,
  w2,  // codes of so many bits, in planes
};

/// Codes lie in units of kUnitColumns: first a plane of their `low` lowest bits, then one of the
/// `high` bits above them (0: none). A plane of b bits is b pieces of [16 rows][4] bytes, and a
/// piece holds 8 / b groups of 4 columns, the first one lowest: bits b * (g % (8 / b)) of byte
/// [row][i] of piece g / (8 / b) are those of column 4 g + i.
struct Planes {
  int low, high;
};
constexpr Planes planes_of(Packing packing) {
  return packing == Packing::w8   ? Planes{8, 0}
         : packing == Packing::w6 ? Planes{4, 2}
         : packing == Packing::w5 ? Planes{4, 1}
         : packing == Packing::w4 ? Planes{4, 0}
         : packing == Packing::w3 ? Planes{2, 1}
         : packing == Packing::w2 ? Planes{2, 0}
                                  : Planes{0, 0};
}

/// One packed matrix: rows are padded with zeros to whole panels. Arrays lie [panel][...][16].
struct PackedView {
  Packing packing;
  int64_t rows, columns;
  const uint8_t* weights;  // panels one after the other, 64-byte aligned

  // Quantized packings only. With sub-scales (sub_scale not null) scale = d * sub_scale * unit and
  // offset = -(dmin * sub_min); without: scale = d, offset = dmin, or -(d * zero) where there are
  // zero points. dmin and zero null: no offset.
  // A block has one sub-block and no sub-scale, or is a multiple of 32, and of two sub-blocks where
  // they have sub_min. At most 256 columns: sums of codes and inputs over a block are integers of
  // at most 256 * 255 * 128 < 2^24, which a float holds too.
  int sub;    // columns a scale: 16 or 32
  int block;  // columns a d
  enum Number { kFp16, kBf16, kF32 } number;
  const void *d, *dmin;      // of that type, [panel][columns/block][16]
  float unit;                // a power of two
  const int8_t* sub_scale;   // [panel][columns/sub][16], or null
  int scale_min, scale_max;  // what sub_scale ranges over
  const uint8_t* sub_min;    // the same, or null
  const int8_t* zero;        // [panel][columns/block][16], or null
  int bias;                  // level = code + bias
  int max_code;              // largest code (after `table`)
  const uint8_t* table;      // up to w4: what the codes stand for, or null for themselves
};

/// The inputs of a product: `tokens` rows of `columns` values.
struct InputView {
  int64_t tokens, columns;
  const float* values;       // [tokens][columns]
  const int8_t* codes;       // [tokens][columns] rounded to 8 bits, -128..127, or null
  const float* scales;       // [tokens][columns/32], the same throughout a block of the weights
  const int32_t* code_sums;  // [tokens][columns/16] sum of 16 codes
  const float* steps;        // [tokens][columns/step] what Ops::bf16 makes of the values, or null
};

/// A part of a product, for one thread.
struct Work {
  int64_t panel_begin, panel_end;
  int64_t token_begin, token_end;
  float* out;          // out[t * out_stride + r], all rows of the matrix
  int64_t out_stride;  // floats
  void* scratch;       // 64-byte aligned, Kernel::scratch_bytes, one a thread
  bool arranged;  // by the last call: the scratch holds what it made of the same tokens' inputs
};

struct Kernel {
  const char* isa;
  Packing packing;
  /// out[t * out_stride + r] = sum_j W[r][j] x[t][j]. With input->codes (quantized packings)
  /// integer products, exact up to where a scale begins; with input->steps (f16, bf16) products of
  /// weights and values rounded to bf16, summed in float32; else float32 products of the values
  /// with decoded weights.
  void (*multiply)(const PackedView* w, const InputView* input, const Work* work);
  /// tile[j * 16 + r] = W[panel * 16 + r][begin + j], for columns [begin, end), multiples of 32 in
  /// quantized packings: just what the format decodes to.
  void (*decode)(const PackedView* w, int64_t panel, int64_t begin, int64_t end, float* tile);
  /// Scratch for work of at most `tokens` tokens.
  int64_t (*scratch_bytes)(const PackedView* w, int64_t tokens);
};

}  // namespace nibble
