// Models side by side: what each costs in quality, in bytes and in time, against the one they were
// made from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nibble/benchmark.h"
#include "nibble/error.h"
#include "nibble/evaluate.h"
#include "nibble/progress.h"
#include "nibble/quantize.h"

namespace nibble {

struct CompareOptions {
  std::string source;                // the original, with which everything is compared
  std::vector<std::string> targets;  // that it is quantized to: whatever QuantizeOptions::target
                                     // takes; "gguf:" in front of a level may be left out
  std::vector<std::string> files;    // finished models
  QuantizeOptions quantize;  // how targets are made; source, output and target are filled in
  EvaluateOptions evaluate;  // likewise; an empty text: quality is not measured
  BenchmarkOptions speed;    // likewise
  std::string task;          // JSONL for evaluate_task(); empty: none
  std::vector<std::string> prompts;  // UTF-8, not empty; answered greedily by every model
  std::uint32_t answer_tokens = 128;
  std::string keep;     // a directory for the models made; empty: they are removed at the end
  std::string scratch;  // where they lie until then, in a directory of their own
  int threads = 0;      // of everything; below 1: one a core
};

/// How far the weights of one matrix moved.
struct MatrixError {
  std::string role;  // "attn_q", "ffn_down"; of matrices outside of blocks their name: "token_embd"
  int layer = -1;    // -1: outside of blocks
  std::string format;   // that holds it
  double relative = 0;  // sum of (decoded - original)² over sum of original²
};

struct ComparedModel {
  std::string name;  // the target, or the file's name
  std::string path;
  std::string error;  // why something is missing, in one line; empty: all was measured
  std::uint64_t bytes = 0;
  double bits_per_weight = 0;
  std::string recipe = {};  // of models made here
  double seconds = 0;       // that making it took
  std::optional<Measured> perplexity = {};
  std::optional<Divergence> divergence = {};  // from the original
  std::optional<BenchmarkReport> speed = {};
  std::optional<TaskScore> task = {};
  std::vector<std::string> answers = {};  // one a prompt
  /// Scales that a transform has moved between matrices are moved back before weights are compared.
  std::vector<MatrixError> matrices = {};
  bool rescaled = false;  // there were such scales
};

struct CompareReport {
  CompareOptions options;
  std::string architecture, text_sha256;
  std::uint64_t parameters = 0, windows = 0, tokens = 0;  // tokens: the scored ones
  ComparedModel original;  // its perplexity has no standard error, its divergence is none
  std::vector<ComparedModel> models;  // targets, then files
};

/// Makes and measures all of them, the original first. What goes wrong with one model is noted
/// there, and the others go on. Errors: of the options, the original, texts and places; cancelled.
/// Nothing is left in `scratch`, however it ends.
Result<CompareReport> compare(const CompareOptions& options, Progress& progress = no_progress());

/// What the figures say, in sentences: best, most for its size, fastest, and which models another
/// one beats in everything. Differences within the errors of measurement are no differences.
std::vector<std::string> compare_advice(const CompareReport& report);

/// A document of its own: no scripts, and nothing is loaded from anywhere.
std::string compare_html(const CompareReport& report);

/// Tables, advice and answers.
std::string compare_markdown(const CompareReport& report);

}  // namespace nibble
