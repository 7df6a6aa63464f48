// Text from a model, token by token.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "graph/runtime.h"
#include "graph/speculate.h"
#include "text/tokenizer.h"

namespace nibble {

enum class StopReason { end_of_text, length, context_full, interrupted };

struct Generation {
  std::vector<Token> tokens;  // without the token that ended it
  std::string text;
  StopReason reason = StopReason::length;
  double prompt_seconds = 0, decode_seconds = 0;
  std::size_t guessed = 0, right = 0;  // tokens of a drafter, and those that came
};

/// Receives text as it comes; returns false to stop.
using OnText = std::function<bool(std::string_view)>;

struct GenerateOptions {
  std::uint32_t limit = 256;  // tokens at most
  OnText on_text = {};
  Drafter* drafter = nullptr;          // makes it faster where it guesses well
  std::span<const Token> before = {};  // what the session holds already, for the drafter
};

/// Appends `prompt` (not empty) to the session and continues.
Result<Generation> generate(Session& session, const Tokenizer& tokenizer,
                            std::span<const Token> prompt, Sampler& sampler,
                            const GenerateOptions& options);

}  // namespace nibble
