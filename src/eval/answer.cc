#include "eval/answer.h"

#include "graph/generate.h"

namespace nibble {
namespace {

Result<std::vector<Token>> prompt_tokens(const Tokenizer& tokenizer, const std::string& prompt) {
  if (!tokenizer.has_chat_template()) return tokenizer.encode(prompt);
  NIBBLE_TRY(const std::string text,
             tokenizer.render_chat(Json::array({{{"role", "user"}, {"content", prompt}}}), true));
  return tokenizer.encode(text, {.add_special = true, .parse_special = true});
}

}  // namespace

Result<Answerer> Answerer::load(const std::string& path, const RuntimeOptions& options,
                                Progress& progress) {
  NIBBLE_TRY(const Model model, Model::open(path));
  NIBBLE_TRY_IN(path, Tokenizer tokenizer, Tokenizer::open(model.source()));
  NIBBLE_TRY_IN(path, auto runtime, Runtime::load(model, options, progress));
  return Answerer(std::move(tokenizer), std::move(runtime), model.config().context);
}

Result<std::string> Answerer::answer(const std::string& prompt, std::uint32_t limit) {
  NIBBLE_TRY(const auto tokens, prompt_tokens(tokenizer_, prompt));
  session_.truncate(0);
  Sampler greedy({});
  NIBBLE_TRY(Generation answer, generate(session_, tokenizer_, tokens, greedy, {.limit = limit}));
  return std::move(answer.text);
}

}  // namespace nibble
