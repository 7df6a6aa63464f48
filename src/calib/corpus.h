// The tokens that calibration feeds: a text, conversations, or what the model writes itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/runtime.h"
#include "nibble/progress.h"
#include "text/tokenizer.h"

namespace nibble {

struct Corpus {
  std::vector<std::vector<Token>>
      windows;         // each fed from an empty cache, none longer than the context
  std::string name;    // path, or "self-written"
  std::string sha256;  // of the text

  std::uint64_t tokens() const {
    std::uint64_t sum = 0;
    for (const auto& window : windows) sum += window.size();
    return sum;
  }
};

struct CorpusOptions {
  std::string text;  // path; ".jsonl": conversations; empty: self-written
  std::uint32_t context = 512;
  std::uint64_t windows = 0;  // at most; 0: all of a text, kSelfWrittenWindows of the model's own
  std::uint64_t seed = 0;
};

inline constexpr std::uint64_t kSelfWrittenWindows = 16;

/// Cuts a text into windows, or renders conversations through the chat template (special tokens
/// parsed), or lets the model write: half of the windows as free text, half as a conversation whose
/// user turn the model writes too. `runtime` is needed only for that.
Result<Corpus> make_corpus(const CorpusOptions& options, const Tokenizer& tokenizer,
                           Runtime* runtime, Progress& progress = no_progress());

}  // namespace nibble
