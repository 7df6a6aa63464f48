// How fast a model runs on this machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nibble/error.h"
#include "nibble/progress.h"

namespace nibble {

struct BenchmarkOptions {
  std::string model;
  std::uint32_t prompt_tokens = 512, generated_tokens = 128;
  std::uint32_t rounds = 3;
  int threads = 0;
  bool exact = false;  // float32 activations instead of 8 bits
};

/// What the machine can do at best, all threads together.
struct MachineSpeed {
  double bytes_per_second = 0;            // read from memory
  double int8_operations_per_second = 0;  // multiplications and additions of 8-bit codes
};

struct BenchmarkReport {
  MachineSpeed machine;
  std::string isa;
  int threads = 0;
  std::uint64_t file_bytes = 0, weight_bytes = 0;  // on disk, and packed in memory
  std::uint64_t read_bytes = 0;                    // of weights, for each token that is generated
  std::uint64_t products = 0;  // multiplications and additions with weights, a token of a prompt
  double load_seconds = 0,
         first_token_seconds = 0;  // from nothing loaded to the first token of the prompt's answer
  double prefill_tokens_per_second = 0, decode_tokens_per_second = 0;  // medians over the rounds
  std::vector<double> prefill_rounds, decode_rounds;
};

Result<BenchmarkReport> benchmark(const BenchmarkOptions& options,
                                  Progress& progress = no_progress());

}  // namespace nibble
