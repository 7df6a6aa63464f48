// Many requests to one model at once: they join and leave a batch between its steps.
#pragma once

#include <functional>
#include <memory>

#include "graph/runtime.h"
#include "serve/generation.h"

namespace nibble {

struct SchedulerOptions {
  int parallel = 4;           // sequences that advance together
  std::size_t queue = 64;     // sequences that wait; more are refused
  std::uint32_t context = 0;  // tokens of a sequence
  bool lookup = false;        // guess what follows from what stood there before (speculate.h)
};

/// Counts since the start.
struct SchedulerCounts {
  std::uint64_t requests = 0, refused = 0, cancelled = 0, prompt_tokens = 0, reused_tokens = 0,
                generated_tokens = 0, steps = 0;
  std::size_t active = 0, waiting = 0, pages = 0;
  double prompt_rate = 0, generated_rate = 0;  // tokens a second, over the last seconds
};

class Scheduler {
 public:
  /// The tokenizer and the runtime must outlive it; the runtime is used by nobody else.
  Scheduler(Runtime& runtime, const Tokenizer& tokenizer, const SchedulerOptions& options);
  ~Scheduler();  // fails what is under way

  /// False: too many wait already.
  bool submit(std::shared_ptr<GenerationJob> job);
  bool idle() const;
  SchedulerCounts counts() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nibble
