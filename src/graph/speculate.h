// Speculative decoding: tokens that are cheap to guess are checked together, with one pass over the
// weights (Leviathan et al. 2023). What a token gets does not depend on the tokens beside it and a
// guess is taken only where the sampler picks it, so the answer is the one without guesses, bit for
// bit, at every temperature.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "graph/runtime.h"
#include "text/tokenizer.h"

namespace nibble {

/// Guesses what follows.
class Drafter {
 public:
  static constexpr std::size_t kMost = 16;  // tokens at once

  virtual ~Drafter() = default;
  /// At most `most` tokens that may follow `tokens`, everything so far; none: no idea.
  virtual Result<std::vector<Token>> guess(std::span<const Token> tokens, std::size_t most) = 0;
};

/// What followed the last occurrence of the last few tokens: good where an answer repeats its
/// prompt.
class LookupDrafter final : public Drafter {
 public:
  static std::vector<Token> find(std::span<const Token> tokens, std::size_t most);
  Result<std::vector<Token>> guess(std::span<const Token> tokens, std::size_t most) override {
    return find(tokens, most);
  }
};

/// What a smaller model of the same vocabulary would say, greedily.
class ModelDrafter final : public Drafter {
 public:
  /// Errors: a model that cannot be loaded, another vocabulary than `tokenizer`'s.
  static Result<std::unique_ptr<ModelDrafter>> load(const std::string& path,
                                                    const RuntimeOptions& options,
                                                    std::uint32_t context,
                                                    const Tokenizer& tokenizer, Progress& progress);
  Result<std::vector<Token>> guess(std::span<const Token> tokens, std::size_t most) override;

  /// Of a runtime that is loaded already.
  ModelDrafter(std::unique_ptr<Runtime> runtime, std::uint32_t context)
      : runtime_(std::move(runtime)), session_(*runtime_, context) {}

 private:
  std::unique_ptr<Runtime> runtime_;
  Session session_;
  std::vector<Token> held_;  // tokens in the cache
};

/// How many guesses are worth their time: more after all were right, fewer after none was.
class DraftLength {
 public:
  std::size_t next() const { return next_; }
  void observe(std::size_t guessed, std::size_t right);

 private:
  std::size_t next_ = 4;
};

/// Error: what a token gets in this model depends on the tokens beside it (a checkpoint that rounds
/// inputs as LLM.int8 does), so guesses could change the answer.
Status check_speculation(const Runtime& runtime);

}  // namespace nibble
