// Answers to prompts that know nothing of each other.
#pragma once

#include <memory>
#include <string>

#include "arch/arch.h"
#include "graph/runtime.h"
#include "text/tokenizer.h"

namespace nibble {

/// A loaded model that answers greedily, through its chat template where it has one.
class Answerer {
 public:
  static Result<Answerer> load(const std::string& path, const RuntimeOptions& options,
                               Progress& progress);
  /// At most `limit` tokens.
  Result<std::string> answer(const std::string& prompt, std::uint32_t limit);

 private:
  Answerer(Tokenizer tokenizer, std::unique_ptr<Runtime> runtime, std::uint32_t context)
      : tokenizer_(std::move(tokenizer)),
        runtime_(std::move(runtime)),
        session_(*runtime_, context) {}

  Tokenizer tokenizer_;
  std::unique_ptr<Runtime> runtime_;
  Session session_;
};

}  // namespace nibble
