// From a checkpoint to a smaller file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nibble/error.h"
#include "nibble/progress.h"

namespace nibble {

/// What a model may cost, instead of a level; at most one of them, 0: no limit. Every matrix then
/// gets the format of its own with which the model loses least.
struct Budget {
  std::uint64_t bytes = 0;     // of the file
  double bits_per_weight = 0;  // of all tensors
  double kld = 0;              // KL divergence of the predictions, nats a token
};

struct QuantizeOptions {
  std::string source;  // a GGUF file, a .safetensors file or a Hugging Face directory
  std::string output;  // a GGUF file, or the name that its parts are derived from; a directory
  std::string target;  // a level ("Q4_K_M"), a format for all matrices ("q4_k"), "keep", or a
                       // scheme of Hugging Face checkpoints and its options ("gptq:int4-g64")
  std::string recipe;  // "[transform+]rounding[:target]"; empty: the best one whose cost is
                       // reasonable here
  bool fast = false;   // without a recipe: importance rounding
  /// An importance matrix, or a text (or .jsonl of messages) that the source model is run on first.
  /// Empty: none; a recipe that needs importance then lets the model write its own text.
  std::string calibration;
  Budget budget;                         // in place of a target
  std::vector<std::string> formats;      // that a budget chooses from; empty: all of GGUF's
  std::uint64_t calibration_chunks = 0;  // windows of 512 tokens of a text; 0: all of it
  std::vector<std::string> overrides;    // "REGEX=FORMAT", the first that matches a matrix decides
  std::uint64_t memory_bytes = 0;        // the most memory to use; 0: whatever it takes
  int threads = 0;                       // below 1: one a core
  bool profile = false;                  // measure where the time goes
  bool force = false;                    // replace an existing output
  std::uint64_t split_bytes = 0;         // tensors a file at most, in bytes; 0: one GGUF file,
                                         // safetensors of 5 GB
};

/// What error feedback came to in one weight matrix, judged on windows that its rounding did not
/// see.
struct FeedbackChoice {
  double shrinkage = 1;    // share of the correlations between inputs that was dropped; 1: all
  double error = 0;        // of the outputs of some rows
  double error_alone = 0;  // the same with every column rounded for itself
  double correction = 0;   // part made of what brings outputs back to the full-precision model's
  std::string fallback;    // why there is no feedback; empty: there is
};

/// One tensor of a plan, and what became of it.
struct QuantizedTensor {
  std::string name;
  std::vector<std::uint64_t> shape;  // outermost first
  std::string source_format, format;
  std::string wanted;  // what was asked for; differs from `format` where rows do not fit its blocks
  std::string reason;  // why it is not what the target says; empty: it is
  std::uint64_t bytes = 0;
  /// Sums over the tensor, of the bytes written; 0 where bytes were copied and in plans.
  double squared_error = 0, weighted_error = 0, squared_weight = 0;
  std::optional<FeedbackChoice> feedback = {};  // where the rounding has it
  bool exact = false;  // quantized in the source, and the same values in this format
};

/// What a budget came to. Sizes are of the file, losses KL divergence in nats a token.
struct BudgetReport {
  struct Point {
    std::uint64_t bytes;
    double predicted;
  };
  std::vector<Point> frontier = {};     // the best for each size, growing
  double predicted = 0;                 // of the choice made
  std::optional<double> measured = {};  // of the file written, on windows of the calibration text
                                        // that no rounding was fitted to
};

/// What the rounding cost, of the file written, on text that it was not fitted to.
struct QualityReport {
  double reference_perplexity = 0, perplexity = 0;  // of the source, and of the file
  double kld = 0;                                   // KL divergence from the source, nats a token
  std::uint64_t tokens = 0;                         // that this was measured on
  std::string text;                                 // where they come from
};

/// Where the time of a run went.
struct PhaseTime {
  std::string name;
  double seconds = 0;
  double flops = 0;       // multiplications and additions a second; 0: not counted
  double best_flops = 0;  // what OpenBLAS reaches on matrices of this size here; 0: not measured
};

struct QuantizeReport {
  std::string target, recipe, architecture;
  std::string output = {};              // the file, the first of its parts, or the directory
  std::vector<std::string> files = {};  // of tensors; empty in plans
  std::uint64_t bytes = 0;              // of all files, header included; exact in plans too
  std::uint64_t tensor_bytes = 0, parameters = 0, source_bytes = 0;
  double bits_per_weight = 0;  // of the tensors
  std::vector<QuantizedTensor> tensors = {};
  std::optional<BudgetReport> budget = {};
  std::optional<QualityReport> quality = {};  // of Hugging Face checkpoints, where it can be run
  double seconds = 0;
  std::uint64_t peak_memory_bytes = 0;  // of the process, resident
  std::vector<PhaseTime> profile = {};  // with QuantizeOptions::profile
};

/// What quantize() would do. Reads headers only.
Result<QuantizeReport> plan_quantize(const QuantizeOptions& options);

/// Errors leave nothing under the output's name. The same bytes for every number of threads.
Result<QuantizeReport> quantize(const QuantizeOptions& options, Progress& progress = no_progress());

}  // namespace nibble
