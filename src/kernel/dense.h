// Kernels of the packings that hold floating point weights: f32, f16, bf16.
#pragma once

#include "kernel/tile.h"

namespace nibble::NIBBLE_ISA {

template <class Panel, class T>
struct Dense {
  static Panel panel(const PackedView* w, int64_t index) {
    return {reinterpret_cast<const T*>(w->weights) + index * w->columns * kPanelRows, kPanelRows};
  }

  static void decode(const PackedView* w, int64_t index, int64_t begin, int64_t end, float* tile) {
    copy(panel(w, index), begin, end, tile);
  }

  static void multiply(const PackedView* w, const InputView* input, const Work* work) {
    if (work->token_end - work->token_begin == 1)
      multiply_with<PanelAhead<Panel>>(w, input, work);
    else
      multiply_with<Panel>(w, input, work);
  }

  static int64_t scratch_bytes(const PackedView* w, int64_t tokens) {
    return dense_scratch(w, tokens) * int64_t(sizeof(float));
  }

 private:
  template <class At>
  NIBBLE_INLINE void multiply_with(const PackedView* w, const InputView* input, const Work* work) {
    const auto at = [w](int64_t p) { return At{panel(w, p)}; };
    if constexpr (sizeof(T) == sizeof(float))
      multiply_direct<StepF32>(w, input->values, work, at);
    else if (input->steps)
      multiply_in<StepBf16>(w, input->steps, work,
                            [at](int64_t p) { return PanelSteps<At>{at(p)}; });
    else
      multiply_in<StepF32>(w, input->values, work, at);
  }

  template <class Columns>
  NIBBLE_INLINE void copy(const Columns& from, int64_t begin, int64_t end, float* tile) {
    for (int64_t j = begin; j < end; ++j) store(tile + (j - begin) * kPanelRows, from.column(j));
  }

  template <class Step, class PanelAt>
  NIBBLE_INLINE void multiply_in(const PackedView* w, const float* values, const Work* work,
                                 const PanelAt& panel_at) {
    if (work->token_end - work->token_begin <= kFewTokens)
      return multiply_direct<Step>(w, values, work, panel_at);
    constexpr int64_t kBytes = kPanelRows * Step::kColumns * int64_t(sizeof(T));
    multiply_decoded<Step>(
        w, values, work,
        [&](int64_t p, int64_t begin, int64_t end, float* tile) __attribute__((always_inline)) {
          copy(panel_at(p), begin, end, tile);
          prefetch(w->weights + p * w->columns * kPanelRows * int64_t(sizeof(T)) + end * kBytes,
                   kTileColumns * kBytes);
        });
  }
};

}  // namespace nibble::NIBBLE_ISA
