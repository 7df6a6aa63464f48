#include "eval/speculation.h"

#include "base/file.h"
#include "eval/rounds.h"
#include "graph/generate.h"
#include "text/tokenizer.h"

namespace nibble {
namespace {

Result<std::vector<Token>> read_prompt(const BenchmarkOptions& options,
                                       const Tokenizer& tokenizer) {
  NIBBLE_TRY(const std::string text, read_text(options.text));
  NIBBLE_TRY_IN(options.text, auto tokens, tokenizer.encode(text));
  if (tokens.size() < options.prompt_tokens)
    return fail(ErrorCode::invalid, "{}: {} tokens, fewer than a prompt of {}", options.text,
                tokens.size(), options.prompt_tokens);
  tokens.resize(options.prompt_tokens);
  return tokens;
}

}  // namespace

Result<MeasuredSpeculation> measure_speculation(const BenchmarkOptions& options, const Model& model,
                                                Runtime& runtime, Progress& progress) {
  NIBBLE_DO(check_speculation(runtime));
  NIBBLE_TRY_IN(options.model, const Tokenizer tokenizer, Tokenizer::open(model.source()));
  NIBBLE_TRY(const auto prompt, read_prompt(options, tokenizer));
  const std::uint32_t context = options.prompt_tokens + options.generated_tokens;
  std::unique_ptr<Drafter> drafter = std::make_unique<LookupDrafter>();
  if (!options.draft.empty()) {
    const RuntimeOptions like = {.threads = options.threads,
                                 .precision = runtime.precision(),
                                 .cache = runtime.cache().type};
    NIBBLE_TRY(drafter, ModelDrafter::load(options.draft, like, context, tokenizer, progress));
  }

  Session session(runtime, context);
  const auto answer = [&](Drafter* guesses) -> Result<Generation> {
    session.truncate(0);
    Sampler greedy(SamplerOptions{});
    NIBBLE_TRY(auto out, generate(session, tokenizer, prompt, greedy,
                                  {.limit = options.generated_tokens, .drafter = guesses}));
    if (out.tokens.size() < 2)
      return fail(ErrorCode::invalid, "{}: the model has nothing to say after {} tokens of it",
                  options.text, prompt.size());
    return out;
  };
  // The first token comes with the prompt.
  const auto speed = [](const Generation& g) {
    return double(g.tokens.size() - 1) / g.decode_seconds;
  };
  MeasuredSpeculation out;
  std::vector<double> plain_rounds, rounds;
  progress.begin("guessing", options.rounds, "rounds");
  for (std::uint32_t i = 0; i < options.rounds; ++i) {
    if (progress.cancelled()) return fail(ErrorCode::cancelled, "stopped while measuring");
    NIBBLE_TRY(const Generation plain, answer(nullptr));
    NIBBLE_TRY(const Generation found, answer(drafter.get()));
    NIBBLE_CHECK(found.tokens == plain.tokens);
    plain_rounds.push_back(speed(plain)), rounds.push_back(speed(found));
    out.tokens = found.tokens.size(), out.guessed = found.guessed, out.right = found.right;
    progress.update(i + 1);
  }
  progress.end();
  out.plain = rate_of(std::move(plain_rounds)), out.speculative = rate_of(std::move(rounds));
  return out;
}

}  // namespace nibble
