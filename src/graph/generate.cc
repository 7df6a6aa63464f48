#include "graph/generate.h"

#include <chrono>

namespace nibble {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Result<Generation> generate(Session& session, const Tokenizer& tokenizer,
                            std::span<const Token> prompt, Sampler& sampler, std::uint32_t limit,
                            const OnText& on_text) {
  const auto start = std::chrono::steady_clock::now();
  for (const Token token : prompt) sampler.accept(token);
  NIBBLE_TRY(auto logits, session.forward(prompt));
  Generation out;
  out.prompt_seconds = seconds_since(start);
  const auto decode_start = std::chrono::steady_clock::now();
  TextStream stream(tokenizer);
  const auto emit = [&](const std::string& piece) {
    out.text += piece;
    return piece.empty() || !on_text || on_text(piece);
  };
  while (out.tokens.size() < limit) {
    const Token token = sampler.pick(logits);
    if (tokenizer.ends_generation(token)) {
      out.reason = StopReason::end_of_text;
      break;
    }
    out.tokens.push_back(token);
    if (!emit(stream.push(token))) {
      out.reason = StopReason::interrupted;
      break;
    }
    if (out.tokens.size() == limit) break;
    if (session.position() >= session.context()) {
      out.reason = StopReason::context_full;
      break;
    }
    NIBBLE_TRY(logits, session.forward(std::span(&token, 1)));
  }
  emit(stream.finish());
  out.decode_seconds = seconds_since(decode_start);
  return out;
}

}  // namespace nibble
