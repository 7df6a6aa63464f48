// Kernels of the packings that hold floating point weights: f32, f16, bf16.
#pragma once

#include "kernel/tile.h"

namespace nibble::NIBBLE_ISA {

template <class Panel, class T>
struct Dense {
  static void decode(const PackedView* w, int64_t panel, int64_t begin, int64_t end, float* tile) {
    const Panel p{reinterpret_cast<const T*>(w->weights) + panel * w->columns * kPanelRows,
                  kPanelRows};
    for (int64_t j = begin; j < end; ++j) store(tile + (j - begin) * kPanelRows, p.column(j));
  }

  static void multiply(const PackedView* w, const InputView* input, const Work* work) {
    if (work->token_end - work->token_begin <= kFewTokens || sizeof(T) == sizeof(float))
      return multiply_direct<Panel>(w, input, work, reinterpret_cast<const T*>(w->weights));
    multiply_decoded(
        w, input, work,
        [w](int64_t panel, int64_t begin, int64_t end, float* tile) __attribute__((always_inline)) {
          decode(w, panel, begin, end, tile);
          const int64_t next = (panel * w->columns + end) * kPanelRows * int64_t(sizeof(T));
          prefetch(w->weights + next, kTileColumns * kPanelRows * int64_t(sizeof(T)));
        });
  }

  static int64_t scratch_bytes(const PackedView* w, int64_t tokens) {
    return dense_scratch(w, tokens) * int64_t(sizeof(float));
  }
};

}  // namespace nibble::NIBBLE_ISA
