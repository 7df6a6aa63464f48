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
  void* spare;            // room for the inputs of a tile, widened
  const uint8_t* codes;   // of the chunk, [columns / 4][16][4]
  int64_t stride;         // bytes from the codes of a panel to those of the next
  float* sums;            // [panels][tokens][16]
  void* arranged;         // the inputs
  int64_t panel, panels;  // up to kTilePanels
  int64_t begin, end;     // columns of the chunk
};

struct BytesProduct {
  void (*arrange)(const BytesWork& work);
  /// Multiplies a chunk; chunks come in the order of their columns.
  void (*multiply)(const BytesWork& work);
};
BytesProduct bytes_product(const PackedView* w);

/// Room for the chunks of panels in bytes, which is also that of BytesWork::spare.
NIBBLE_INLINE int64_t spare_bytes(const PackedView* w) {
  const int64_t chunks = kTilePanels * kChunk;
  return (w->columns > chunks ? w->columns : chunks) * kPanelRows;
}
NIBBLE_INLINE int64_t bytes_scratch(const PackedView* w, int64_t tokens) {
  // At most 2 bytes of input for a column and 12 for 16 of them.
  return spare_bytes(w) +
         tokens * (kTilePanels * kPanelRows * int64_t(sizeof(float)) + w->columns * 3);
}

}  // namespace nibble::NIBBLE_ISA
