// A text for tiny models: tokens all over the vocabulary.
#pragma once

#include "arch/arch.h"
#include "calib/corpus.h"

namespace nibble {

/// 16 windows of 48 tokens.
inline Corpus some_tokens(const Model& model) {
  Corpus corpus{.windows = {}, .name = "tokens", .sha256 = ""};
  for (std::uint32_t w = 0; w < 16; ++w) {
    auto& window = corpus.windows.emplace_back();
    for (std::uint32_t t = 0; t < 48; ++t)
      window.push_back((7 * t * t + 3 * t + 11 * w * t + w) % model.config().vocab);
  }
  return corpus;
}

}  // namespace nibble
