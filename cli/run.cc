// nibble run: continue a prompt, or chat.
#include <fmt/format.h>

#include <iostream>
#include <memory>
#include <optional>

#include "arch/arch.h"
#include "cli/command.h"
#include "container/hub.h"
#include "graph/generate.h"

namespace nibble::cli {
namespace {

struct Options {
  std::string model, system, cache, packed;
  std::optional<std::string> prompt;
  std::optional<float> temperature;
  std::uint32_t tokens = 256, context = 4096;
  SamplerOptions sampler;
  int threads = 0;
  std::string draft;
  bool chat = false, exact = false, json = false, lookup = false;
};

/// A loaded model with one conversation.
struct Chat {
  Model model;
  Tokenizer tokenizer;
  std::unique_ptr<Runtime> runtime;
  std::unique_ptr<Session> session;
  std::unique_ptr<Drafter> drafter;  // or null
  Json messages = Json::array();
  std::vector<Token> held = {};  // tokens in the cache

  static Result<Chat> load(const Options& options, Progress& progress) {
    NIBBLE_TRY(const std::string path, resolve_source(options.model, {}, progress));
    NIBBLE_TRY(Model model, Model::open(path));
    NIBBLE_TRY_IN(path, Tokenizer tokenizer, Tokenizer::open(model.source()));
    const auto precision = options.exact ? Precision::exact : Precision::fast;
    const RuntimeOptions runtime_options = {.threads = options.threads,
                                            .precision = precision,
                                            .cache = options.cache,
                                            .packed = options.packed};
    NIBBLE_TRY_IN(path, auto runtime, Runtime::load(model, runtime_options, progress));
    auto session =
        std::make_unique<Session>(*runtime, std::min(options.context, model.config().context));
    std::unique_ptr<Drafter> drafter;
    if (options.lookup) drafter = std::make_unique<LookupDrafter>();
    if (!options.draft.empty()) {
      NIBBLE_TRY(const std::string draft, resolve_source(options.draft, {}, progress));
      NIBBLE_TRY(drafter, ModelDrafter::load(draft, runtime_options, session->context(), tokenizer,
                                             progress));
    }
    if (drafter) NIBBLE_DO(check_speculation(*runtime));
    return Chat{std::move(model), std::move(tokenizer), std::move(runtime), std::move(session),
                std::move(drafter)};
  }
};

const char* reason_text(StopReason reason) {
  switch (reason) {
    case StopReason::end_of_text:
      return "end_of_text";
    case StopReason::length:
      return "length";
    case StopReason::context_full:
      return "context_full";
    case StopReason::interrupted:
      return "interrupted";
  }
  return "";
}

bool print_piece(std::string_view piece) {
  fmt::print("{}", piece);
  std::fflush(stdout);
  return !interrupted();
}

/// Feeds what the cache does not hold yet and continues.
Result<Generation> answer(Chat& chat, const std::vector<Token>& tokens, const Options& options,
                          const OnText& on_text) {
  if (tokens.empty())
    return fail(ErrorCode::invalid,
                "the prompt is empty and the model has no BOS token to start from");
  if (tokens.size() >= chat.session->context())
    return fail(ErrorCode::invalid, "the prompt has {} tokens, the context holds {}; raise --ctx",
                tokens.size(), chat.session->context());
  std::size_t shared = 0;
  while (shared < std::min(chat.held.size(), tokens.size() - 1) &&
         chat.held[shared] == tokens[shared])
    ++shared;
  chat.session->truncate(std::uint32_t(shared));
  SamplerOptions sampler_options = options.sampler;
  sampler_options.temperature = options.temperature.value_or(options.prompt ? 0.0f : 0.7f);
  Sampler sampler(sampler_options);
  const GenerateOptions generate_options = {.limit = options.tokens,
                                            .on_text = on_text,
                                            .drafter = chat.drafter.get(),
                                            .before = std::span(tokens).first(shared)};
  NIBBLE_TRY(Generation out,
             generate(*chat.session, chat.tokenizer, std::span(tokens).subspan(shared), sampler,
                      generate_options));
  chat.held = tokens;
  chat.held.insert(chat.held.end(), out.tokens.begin(), out.tokens.end());
  chat.held.resize(std::min<std::size_t>(chat.held.size(), chat.session->position()));
  return out;
}

Result<std::vector<Token>> chat_tokens(const Chat& chat) {
  NIBBLE_TRY(const std::string text, chat.tokenizer.render_chat(chat.messages, true));
  return chat.tokenizer.encode(text, {.add_special = true, .parse_special = true});
}

Result<std::vector<Token>> prompt_tokens(Chat& chat, const Options& options) {
  if (!options.chat)
    return chat.tokenizer.encode(*options.prompt, {.add_special = true, .parse_special = true});
  if (!options.system.empty())
    chat.messages.push_back({{"role", "system"}, {"content", options.system}});
  chat.messages.push_back({{"role", "user"}, {"content", *options.prompt}});
  return chat_tokens(chat);
}

int print_result(const Generation& g, std::size_t prompt_tokens, const Options& options) {
  const auto rate = [](std::size_t n, double seconds) {
    return seconds > 0 ? double(n) / seconds : 0.0;
  };
  const std::size_t steps =
      g.tokens.empty() ? 0 : g.tokens.size() - 1;  // the first token comes with the prompt
  if (options.json)
    return print_json({{"text", g.text},
                       {"tokens", g.tokens},
                       {"stop_reason", reason_text(g.reason)},
                       {"prompt_tokens", prompt_tokens},
                       {"guessed_tokens", g.guessed},
                       {"right_guesses", g.right},
                       {"prefill_tokens_per_second", rate(prompt_tokens, g.prompt_seconds)},
                       {"decode_tokens_per_second", rate(steps, g.decode_seconds)}});
  fmt::print("\n");
  const std::string guesses =
      g.guessed == 0 ? ""
                     : fmt::format("; {} of {} guesses right ({:.0f}%)", g.right, g.guessed,
                                   100 * double(g.right) / double(g.guessed));
  fmt::print(stderr, "[{} prompt tokens, {:.1f}/s; {} generated, {:.1f}/s{}]\n", prompt_tokens,
             rate(prompt_tokens, g.prompt_seconds), g.tokens.size(), rate(steps, g.decode_seconds),
             guesses);
  return g.reason == StopReason::interrupted ? kExitCancelled : kExitOk;
}

int run_once(Chat& chat, const Options& options) {
  const auto tokens = prompt_tokens(chat, options);
  if (!tokens) return report(tokens.error());
  const auto result = answer(chat, *tokens, options, options.json ? OnText{} : OnText(print_piece));
  return result ? print_result(*result, tokens->size(), options) : report(result.error());
}

int run_chat(Chat& chat, const Options& options) {
  if (!chat.tokenizer.has_chat_template())
    return report(
        Error(ErrorCode::invalid, options.model + ": has no chat template; give a prompt with -p"));
  if (!options.system.empty())
    chat.messages.push_back({{"role", "system"}, {"content", options.system}});
  fmt::print(stderr, "Chat with {}. An empty line or Ctrl-D ends it.\n", options.model);
  for (std::string line;;) {
    fmt::print(stderr, "\n> ");
    if (!std::getline(std::cin, line) || line.empty()) return kExitOk;
    chat.messages.push_back({{"role", "user"}, {"content", line}});
    const auto tokens = chat_tokens(chat);
    if (!tokens) return report(tokens.error());
    const auto result = answer(chat, *tokens, options, print_piece);
    if (!result) return report(result.error());
    fmt::print("\n");
    if (interrupted()) return kExitCancelled;
    chat.messages.push_back({{"role", "assistant"}, {"content", result->text}});
  }
}

void add_sampling(CLI::App& app, Options& options) {
  SamplerOptions& s = options.sampler;
  app.add_option("--temp", options.temperature,
                 "Temperature; 0: greedy. Default: 0 with -p, 0.7 in a chat")
      ->check(CLI::Range(0.0, 100.0));
  app.add_option("--top-k", s.top_k, "Keep the k most probable tokens; 0: all")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--top-p", s.top_p, "Keep the most probable tokens that make up this share")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--min-p", s.min_p, "Keep tokens at least this share as probable as the best")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--repeat-penalty", s.repetition_penalty,
                 "Divide the logits of recent tokens by this")
      ->check(CLI::Range(0.1, 10.0));
  app.add_option("--seed", s.seed, "Seed of the sampling")->capture_default_str();
}

}  // namespace

Run add_run(CLI::App& app) {
  app.description("Continue a prompt, or chat with a model.");
  const auto options = std::make_shared<Options>();
  app.add_option("model", options->model, "GGUF file, Hugging Face directory or org/name")
      ->required();
  app.add_option("-p,--prompt", options->prompt, "Text to continue; without it: interactive chat");
  app.add_flag("--chat", options->chat,
               "Give the prompt as a user's message through the chat template");
  app.add_option("--system", options->system, "System message of the chat");
  app.add_option("-n,--tokens", options->tokens, "Tokens to generate at most")
      ->capture_default_str();
  app.add_option("--ctx", options->context, "Context in tokens")
      ->check(CLI::Range(8, 1 << 24))
      ->capture_default_str();
  add_sampling(app, *options);
  add_threads(app, options->threads);
  app.add_flag("--exact", options->exact,
               "Keep activations in float32 instead of rounding them to 8 bits");
  add_cache(app, options->cache);
  add_packed(app, options->packed);
  const auto lookup = app.add_flag(
      "--lookup", options->lookup,
      "Guess tokens from what followed the last ones before, and check them together: the same "
      "answer, sooner where it repeats its prompt");
  app.add_option("--draft", options->draft,
                 "The same with a smaller model of the same vocabulary that guesses")
      ->excludes(lookup);
  app.add_flag("--json", options->json, "Print one JSON object (with -p)");
  app.footer(
      "Examples:\n"
      "  nibble run model.gguf -p 'The capital of France is' -n 16\n"
      "  nibble run model.gguf --chat -p 'Why is the sky blue?'\n"
      "  nibble run model.gguf --ctx 32768 --cache q8_0\n"
      "  nibble run model.gguf --packed ~/.cache/nibble/packed\n"
      "  nibble run model.gguf -p \"$(cat program.py)\" --lookup\n"
      "  nibble run Q8_0.gguf --draft Q2_K.gguf --chat -p 'Why is the sky blue?'\n"
      "  nibble run model.gguf --temp 0.8 --seed 1");
  return [options] {
    ConsoleProgress progress;
    if (options->json && !options->prompt)
      return report(Error(ErrorCode::invalid, "--json needs a prompt: give -p"));
    auto chat = Chat::load(*options, progress);
    if (!chat) return report(chat.error());
    return options->prompt ? run_once(*chat, *options) : run_chat(*chat, *options);
  };
}

}  // namespace nibble::cli
