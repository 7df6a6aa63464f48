// Products of several tokens, for all packings of codes: panels are expanded into bytes, a chunk of
// columns at a time, and multiplied from there.
#pragma once

#include "kernel/tile.h"

namespace nibble::NIBBLE_ISA {

/// Columns of a chunk: a multiple of all blocks. As bytes they fill a quarter of a first cache,
/// where they stay while one tile of tokens after the other goes through them.
inline constexpr int64_t kChunk = 512;

struct BytesWork {
  const PackedView* w;
  const InputView* input;
  const Work* work;
  void* spare;                // room for the inputs of a tile, widened
  const uint8_t* codes;       // of the chunk, [columns / 4][16][4]
  float* sums;                // [tokens][16]
  void* arranged;             // the inputs
  int64_t panel, begin, end;  // columns of the chunk
};

struct BytesProduct {
  void (*arrange)(const BytesWork& work);
  /// Multiplies a chunk; chunks come in the order of their columns.
  void (*multiply)(const BytesWork& work);
};
BytesProduct bytes_product(const PackedView* w);

NIBBLE_INLINE int64_t bytes_scratch(const PackedView* w, int64_t tokens) {
  const int64_t columns = w->columns > kChunk ? w->columns : kChunk;
  // At most 2 bytes of input for a column and 12 for 16 of them.
  return columns * kPanelRows + tokens * (kPanelRows * int64_t(sizeof(float)) + columns * 3);
}

}  // namespace nibble::NIBBLE_ISA
