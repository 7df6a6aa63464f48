#include "graph/speculate.h"

#include <algorithm>

namespace nibble {
namespace {

constexpr std::size_t kLongest = 4, kShortest = 2;  // tokens that must have been there before

/// Where the last `count` tokens stood before, the last time; `tokens.size()`: nowhere.
std::size_t last_occurrence(std::span<const Token> tokens, std::size_t count) {
  const auto last = tokens.last(count);
  for (std::size_t at = tokens.size() - count; at-- > 0;)
    if (std::ranges::equal(tokens.subspan(at, count), last)) return at;
  return tokens.size();
}

Status check_vocabulary(const std::string& path, const Tokenizer& draft, const Tokenizer& target) {
  const std::size_t size = target.vocab_size();
  if (draft.vocab_size() != size)
    return fail(ErrorCode::invalid,
                "{}: has {} tokens in its vocabulary and the model has {}: it can't guess for it",
                path, draft.vocab_size(), size);
  for (Token token = 0; token < size; ++token)
    if (draft.token_bytes(token) != target.token_bytes(token))
      return fail(ErrorCode::invalid,
                  "{}: its token {} is '{}', the model's is '{}': it can't guess for it", path,
                  token, draft.token_bytes(token), target.token_bytes(token));
  return {};
}

}  // namespace

std::vector<Token> LookupDrafter::find(std::span<const Token> tokens, std::size_t most) {
  if (most == 0) return {};
  for (std::size_t count = kLongest; count >= kShortest; --count) {
    if (tokens.size() <= count) continue;
    const std::size_t at = last_occurrence(tokens, count);
    if (at == tokens.size()) continue;
    std::vector<Token> out;
    const auto rest = tokens.subspan(at + count);
    for (std::size_t i = 0; i < most; ++i)  // where it ends, it is taken to repeat itself
      out.push_back(i < rest.size() ? rest[i] : out[i - rest.size()]);
    return out;
  }
  return {};
}

Result<std::unique_ptr<ModelDrafter>> ModelDrafter::load(const std::string& path,
                                                         const RuntimeOptions& options,
                                                         std::uint32_t context,
                                                         const Tokenizer& tokenizer,
                                                         Progress& progress) {
  NIBBLE_TRY(const Model model, Model::open(path));
  NIBBLE_TRY_IN(path, const Tokenizer own, Tokenizer::open(model.source()));
  NIBBLE_DO(check_vocabulary(path, own, tokenizer));
  NIBBLE_TRY_IN(path, auto runtime, Runtime::load(model, options, progress));
  return std::make_unique<ModelDrafter>(std::move(runtime),
                                        std::min(context, model.config().context));
}

Result<std::vector<Token>> ModelDrafter::guess(std::span<const Token> tokens, std::size_t most) {
  const auto same = std::ranges::mismatch(held_, tokens).in1 - held_.begin();
  const std::size_t known = std::min(std::size_t(same), tokens.size() - 1);
  session_.truncate(std::uint32_t(known));
  held_.resize(known);
  std::vector<Token> unread(tokens.begin() + std::ptrdiff_t(known), tokens.end()), out;
  Sampler greedy(SamplerOptions{});
  while (out.size() < most && held_.size() + unread.size() <= session_.context()) {
    NIBBLE_TRY(const auto logits, session_.forward(unread));
    held_.insert(held_.end(), unread.begin(), unread.end());
    out.push_back(greedy.pick(logits));
    unread = {out.back()};
  }
  return out;
}

void DraftLength::observe(std::size_t guessed, std::size_t right) {
  if (guessed == 0) return;
  if (right == guessed && guessed >= next_) next_ = std::min(2 * next_, Drafter::kMost);
  if (right == 0) next_ = std::max<std::size_t>(next_ / 2, 1);
}

Status check_speculation(const Runtime& runtime) {
  if (!runtime.mixes_tokens()) return {};
  return fail(
      ErrorCode::invalid,
      "this checkpoint rounds inputs by outliers of all tokens that run together (LLM.int8): "
      "guesses would change its answers; go without --draft and --lookup");
}

}  // namespace nibble
