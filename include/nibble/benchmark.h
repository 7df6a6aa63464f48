// How fast a model runs on this machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nibble/error.h"
#include "nibble/progress.h"

namespace nibble {

struct BenchmarkOptions {
  std::string model;
  std::uint32_t prompt_tokens = 512, generated_tokens = 128;
  /// Besides one sequence with an empty cache: decoding of so many sequences together, each with so
  /// many tokens in its cache, every pair of both.
  std::vector<std::uint32_t> batches = {1}, contexts = {0};
  std::uint32_t rounds = 3;
  int threads = 0;
  bool exact = false;       // float32 activations instead of 8 bits
  std::string cache = "";   // type of keys and values; empty: f16, exact f32
  std::string packed = "";  // directory of packed weights, to begin at once; empty: none
  /// Also answers the first `prompt_tokens` of a text with tokens guessed by `draft`, a smaller
  /// model of the same vocabulary, or looked up in what came before. Empty: not measured.
  std::string text = "", draft = "";
  std::string powercap = "/sys/class/powercap";  // where Linux shows counters of energy
};

/// What the machine can do at best, all threads together.
struct MachineSpeed {
  double bytes_per_second = 0;            // read from memory
  double int8_operations_per_second = 0;  // multiplications and additions of 8-bit codes
  double bf16_operations_per_second = 0;  // of bf16, as F16 and BF16 are multiplied
};

/// The rounds of one measurement.
struct MeasuredRate {
  double tokens_per_second = 0;            // the median, all sequences together
  std::optional<double> joules_per_token;  // the median, where the machine counts
  std::vector<double> rounds;              // tokens per second
};

struct MeasuredDecode {
  std::uint32_t sequences = 1, context = 0;  // tokens in the cache of each when it begins
  MeasuredRate rate;
};

/// An answer to a text, which guesses do not change.
struct MeasuredSpeculation {
  MeasuredRate plain, speculative;
  std::uint64_t tokens = 0, guessed = 0, right = 0;  // of the answer; guesses, and right ones
};

struct BenchmarkReport {
  MachineSpeed machine;
  std::string isa, cache;
  int threads = 0;
  std::uint64_t cache_token_bytes = 0;  // of keys and values, for each token of a sequence
  std::uint64_t file_bytes = 0, weight_bytes = 0;  // on disk, and packed in memory
  std::uint64_t read_bytes = 0;                    // of weights, for each token that is generated
  std::uint64_t products = 0;  // multiplications and additions with weights, a token of a prompt
  double load_seconds = 0,
         first_token_seconds = 0;  // from nothing loaded to the first token of the prompt's answer
  MeasuredRate prefill, decode;    // decode: of one sequence with an empty cache
  std::vector<MeasuredDecode> decodes;  // the others that were asked for
  std::optional<MeasuredSpeculation> speculation;
  std::vector<std::string> energy_domains;  // what the counters of energy cover; none:
  std::string no_energy;                    // why there are none
};

Result<BenchmarkReport> benchmark(const BenchmarkOptions& options,
                                  Progress& progress = no_progress());

}  // namespace nibble
