#include "graph/generate.h"

#include <algorithm>
#include <chrono>
#include <optional>

namespace nibble {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// One answer as it grows.
class Generator {
 public:
  Generator(Session& session, const Tokenizer& tokenizer, Sampler& sampler,
            const GenerateOptions& options)
      : session_(session),
        tokenizer_(tokenizer),
        sampler_(sampler),
        options_(options),
        stream_(tokenizer),
        history_(options.before.begin(), options.before.end()) {}

  Result<Generation> run(std::span<const Token> prompt) {
    auto start = std::chrono::steady_clock::now();
    for (const Token token : prompt) sampler_.accept(token);
    history_.insert(history_.end(), prompt.begin(), prompt.end());
    NIBBLE_TRY(auto logits, session_.forward(prompt));
    vocab_ = logits.size();
    out_.prompt_seconds = seconds_since(start);
    start = std::chrono::steady_clock::now();
    std::vector<Token> guesses;
    while (out_.tokens.size() < options_.limit && !advance(logits, guesses)) {
      NIBBLE_TRY(guesses, guess());
      std::vector<Token> tokens = {history_.back()};
      tokens.insert(tokens.end(), guesses.begin(), guesses.end());
      NIBBLE_TRY(logits, session_.forward(tokens, Logits::all));
    }
    emit(stream_.finish());
    out_.decode_seconds = seconds_since(start);
    return std::move(out_);
  }

 private:
  bool emit(const std::string& piece) {
    out_.text += piece;
    return piece.empty() || !options_.on_text || options_.on_text(piece);
  }

  /// Takes tokens from rows of logits: the one after what was certain, and those after guesses as
  /// long as they are what was picked. Whether that is the end.
  bool advance(std::span<const float> logits, std::span<const Token> guesses) {
    const std::size_t held = session_.position() - guesses.size();
    std::size_t right = 0;
    std::optional<StopReason> reason;
    for (bool guessed = true; guessed; right += guessed) {
      const Token token = sampler_.pick(logits.subspan(right * vocab_, vocab_));
      reason = take(token, held + right);
      guessed = !reason && right < guesses.size() && guesses[right] == token;
    }
    session_.truncate(std::uint32_t(held + right));
    length_.observe(guesses.size(), right);
    out_.right += right;
    if (reason) out_.reason = *reason;
    return reason.has_value();
  }

  /// Appends a token that was picked with `held` tokens in the cache. The reason, if that ends it.
  std::optional<StopReason> take(Token token, std::size_t held) {
    if (tokenizer_.ends_generation(token)) return StopReason::end_of_text;
    out_.tokens.push_back(token);
    history_.push_back(token);
    if (!emit(stream_.push(token))) return StopReason::interrupted;
    if (out_.tokens.size() == options_.limit) return StopReason::length;
    if (held >= session_.context()) return StopReason::context_full;
    return std::nullopt;
  }

  Result<std::vector<Token>> guess() {
    if (!options_.drafter) return std::vector<Token>();
    const std::size_t room = session_.context() - session_.position() - 1;
    const std::size_t wanted = options_.limit - out_.tokens.size() - 1;
    NIBBLE_TRY(auto guesses,
               options_.drafter->guess(history_, std::min({length_.next(), room, wanted})));
    out_.guessed += guesses.size();
    return guesses;
  }

  Session& session_;
  const Tokenizer& tokenizer_;
  Sampler& sampler_;
  const GenerateOptions& options_;
  std::size_t vocab_ = 0;
  TextStream stream_;
  std::vector<Token> history_;  // everything, for the drafter
  DraftLength length_;
  Generation out_;
};

}  // namespace

Result<Generation> generate(Session& session, const Tokenizer& tokenizer,
                            std::span<const Token> prompt, Sampler& sampler,
                            const GenerateOptions& options) {
  NIBBLE_CHECK(!options.drafter || options.before.size() == session.position());
  return Generator(session, tokenizer, sampler, options).run(prompt);
}

}  // namespace nibble
