// What a model's linear layers see: the importance of every input column, for rounding well.
#pragma once

#include <cstdint>
#include <string>

#include "nibble/error.h"
#include "nibble/progress.h"

namespace nibble {

struct CalibrateOptions {
  std::string model;
  std::string output;  // a GGUF imatrix
  std::string
      text;  // UTF-8 text, or .jsonl of {"messages": [...]}; empty: the model writes its own
  std::uint32_t context = 512;  // tokens a window
  std::uint64_t chunks =
      0;  // windows at most; 0: the whole text (or the default amount of self-written text)
  std::uint64_t seed = 0;  // of self-written text
  int threads = 0;
  bool overwrite = false;
};

struct CalibrationReport {
  std::uint64_t windows = 0, tokens = 0, matrices = 0;
  std::string dataset;         // the path of the text, or "self-written"
  std::string dataset_sha256;  // of the text as it was fed
  double seconds = 0;
};

/// Runs the model over a text and writes the mean square of each linear layer's inputs in
/// llama.cpp's GGUF imatrix form, which stock tools read too. Deterministic for a seed and
/// independent of the thread count.
Result<CalibrationReport> calibrate(const CalibrateOptions& options,
                                    Progress& progress = no_progress());

}  // namespace nibble
