// What a model costs in quality, measured on held-out text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nibble/error.h"
#include "nibble/progress.h"

namespace nibble {

/// How a text is cut into windows and which tokens are scored.
enum class Procedure {
  plain,      // non-overlapping windows, no BOS added, every token but the first of a window scored
  llama_cpp,  // llama-perplexity's: BOS (where the model has one) in front of each window, its
              // second half scored
};

struct EvaluateOptions {
  std::vector<std::string> models;  // at least one
  std::string reference;            // compared with in lockstep; empty: none
  std::string text;                 // path of a UTF-8 text file
  Procedure procedure = Procedure::plain;
  std::uint32_t context = 512;  // tokens a window
  std::uint64_t chunks = 0;     // windows at most; 0: all whole windows of the text
  int threads = 0;
  bool fast = false;  // round activations to 8 bits as `nibble run` does; else float32
  /// How keys and values are kept, of the models, not of the reference; empty: f32, with `fast`
  /// f16.
  std::string cache = "";
};

/// An estimate and its standard error.
struct Measured {
  double value = 0, standard_error = 0;
};

/// Divergence of a model from its reference, over the scored tokens. In nats.
struct Divergence {
  double reference_perplexity = 0;
  Measured perplexity_ratio;  // model / reference
  Measured kld;               // mean of KL(reference || model)
  double kld_median = 0, kld_p99 = 0, kld_max = 0;
  Measured same_top;  // share of tokens where both prefer the same next token, 0 to 1
};

struct Evaluation {
  std::string model;
  std::uint64_t windows = 0, tokens = 0;  // tokens: the scored ones
  Measured perplexity;
  std::optional<Divergence> divergence;
  double seconds = 0;  // of the whole run, all models
  std::string text_sha256;
};

/// Perplexity of a text, and divergence from a reference if one is given, of each model in order.
/// All run in lockstep, the reference once for all of them, and must share a vocabulary: the text
/// is cut into tokens by the first.
Result<std::vector<Evaluation>> evaluate(const EvaluateOptions& options,
                                         Progress& progress = no_progress());

struct TaskOptions {
  std::string model;
  std::string file;         // JSONL
  std::uint64_t limit = 0;  // items at most; 0: all
  int threads = 0;
  bool fast = false;
  std::string cache = "";
};

/// Accuracy on questions with given endings: {"context": .., "endings": [..], "label": n} a line
/// (also "question", "prompt"; "choices"; "answer"). The ending with the highest log probability
/// wins.
struct ChoiceScore {
  std::uint64_t items = 0;
  Measured accuracy;             // by the sum of log probabilities
  Measured accuracy_normalized;  // by that sum over the ending's length in bytes (the figure
                                 // published for HellaSwag)
};
Result<ChoiceScore> evaluate_choices(const TaskOptions& options,
                                     Progress& progress = no_progress());

/// The user's own questions: {"prompt": .., "expected": .., "match": "exact" | "contains" |
/// "regex", "max_tokens": n} a line. The answer is generated greedily, through the chat template
/// where the model has one.
struct TaskScore {
  struct Item {
    std::string prompt, expected, answer;
    bool right = false;
  };
  Measured accuracy;
  std::vector<Item> items;
};
Result<TaskScore> evaluate_task(const TaskOptions& options, Progress& progress = no_progress());

}  // namespace nibble
