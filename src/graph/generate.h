// Text from a model, token by token.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "graph/runtime.h"
#include "text/tokenizer.h"

namespace nibble {

enum class StopReason { end_of_text, length, context_full, interrupted };

struct Generation {
  std::vector<Token> tokens;  // without the token that ended it
  std::string text;
  StopReason reason = StopReason::length;
  double prompt_seconds = 0, decode_seconds = 0;
};

/// Receives text as it comes; returns false to stop.
using OnText = std::function<bool(std::string_view)>;

/// Appends `prompt` (not empty) to the session and continues with at most `limit` tokens.
Result<Generation> generate(Session& session, const Tokenizer& tokenizer,
                            std::span<const Token> prompt, Sampler& sampler, std::uint32_t limit,
                            const OnText& on_text = {});

}  // namespace nibble
