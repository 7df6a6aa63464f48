#include "calib/corpus.h"

#include <algorithm>

#include "base/file.h"
#include "base/hash.h"
#include "base/jsonl.h"
#include "graph/generate.h"

namespace nibble {
namespace {

std::string sha256_of(const std::string& text) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(text)));
  return hash.hex();
}

/// Windows of `context` tokens; a rest shorter than a quarter of it is dropped unless it is all
/// there is.
void cut(const std::vector<Token>& tokens, std::uint32_t context, Corpus& corpus) {
  for (std::size_t begin = 0; begin < tokens.size(); begin += context) {
    const std::size_t n = std::min<std::size_t>(context, tokens.size() - begin);
    if (n < context / 4 && begin > 0) break;
    corpus.windows.emplace_back(tokens.begin() + std::ptrdiff_t(begin),
                                tokens.begin() + std::ptrdiff_t(begin + n));
  }
}

Status read_plain(const CorpusOptions& options, const Tokenizer& tokenizer, Corpus& corpus) {
  NIBBLE_TRY(const std::string text, read_text(options.text));
  NIBBLE_TRY_IN(options.text, const auto tokens,
                tokenizer.encode(text, {.add_special = false, .parse_special = true}));
  corpus.sha256 = sha256_of(text);
  cut(tokens, options.context, corpus);
  return {};
}

Status read_conversations(const CorpusOptions& options, const Tokenizer& tokenizer,
                          Corpus& corpus) {
  NIBBLE_TRY(const auto items, read_jsonl(options.text, options.windows));
  std::string all;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const std::string where = fmt::format("{}: item {}", options.text, i + 1);
    const auto messages = items[i].find("messages");
    if (messages == items[i].end() || !messages->is_array())
      return fail(ErrorCode::corrupt, "{}: field 'messages' is missing or not a list", where);
    if (!tokenizer.has_chat_template())
      return fail(ErrorCode::invalid, "{}: the model has no chat template; give plain text instead",
                  options.text);
    NIBBLE_TRY_IN(where, const std::string text, tokenizer.render_chat(*messages, false));
    NIBBLE_TRY_IN(where, const auto tokens,
                  tokenizer.encode(text, {.add_special = true, .parse_special = true}));
    all += text;
    cut(tokens, options.context, corpus);
  }
  corpus.sha256 = sha256_of(all);
  return {};
}

/// What stands before the content of the first user turn in the model's chat template.
Result<std::vector<Token>> user_turn_opening(const Tokenizer& tokenizer) {
  const std::string mark = "\x01nibble\x01";
  NIBBLE_TRY(const std::string text,
             tokenizer.render_chat(Json::array({{{"role", "user"}, {"content", mark}}}), true));
  const std::size_t at = text.find(mark);
  if (at == std::string::npos)
    return fail(ErrorCode::unsupported, "the chat template drops the user's message");
  return tokenizer.encode(text.substr(0, at), {.add_special = true, .parse_special = true});
}

/// Fills one window from `opening` on, passing over ends of text as the model would in its training
/// data.
Result<std::vector<Token>> write_window(Session& session, const std::vector<Token>& opening,
                                        std::uint32_t context, std::uint64_t seed) {
  Sampler sampler({.temperature = 1.0f, .min_p = 0.02f, .seed = seed});
  std::vector<Token> window = opening;
  session.truncate(0);
  std::span<const Token> next = window;
  Token picked;
  while (window.size() < context) {
    NIBBLE_TRY(const auto logits, session.forward(next));
    picked = sampler.pick(logits);
    window.push_back(picked);
    next = std::span(&picked, 1);
  }
  return window;
}

Status write_own(const CorpusOptions& options, const Tokenizer& tokenizer, Runtime& runtime,
                 Corpus& corpus, Progress& progress) {
  const std::uint64_t count = options.windows > 0 ? options.windows : kSelfWrittenWindows;
  const Token start = tokenizer.bos().value_or(tokenizer.eos().value_or(0));
  const std::vector<Token> free_text = {start};
  std::vector<Token> conversation = free_text;
  if (tokenizer.has_chat_template()) {
    if (auto opening = user_turn_opening(tokenizer);
        opening && !opening->empty() && opening->size() < options.context)
      conversation = std::move(*opening);
  }
  Session session(runtime, options.context);
  std::string all;
  progress.begin("writing calibration text", count, "windows");
  for (std::uint64_t i = 0; i < count; ++i) {
    if (progress.cancelled())
      return fail(ErrorCode::cancelled, "stopped after {} of {} windows", i, count);
    NIBBLE_TRY(auto window, write_window(session, i % 2 == 0 ? free_text : conversation,
                                         options.context, options.seed * 0x9e3779b97f4a7c15u + i));
    NIBBLE_TRY(const std::string text, tokenizer.decode(window, false));
    all += text;
    corpus.windows.push_back(std::move(window));
    progress.update(i + 1);
  }
  progress.end();
  corpus.sha256 = sha256_of(all);
  return {};
}

}  // namespace

Result<Corpus> make_corpus(const CorpusOptions& options, const Tokenizer& tokenizer,
                           Runtime* runtime, Progress& progress) {
  Corpus corpus;
  corpus.name = options.text.empty() ? "self-written" : options.text;
  if (options.text.empty())
    NIBBLE_DO(write_own(options, tokenizer, *runtime, corpus, progress));
  else if (options.text.ends_with(".jsonl"))
    NIBBLE_DO(read_conversations(options, tokenizer, corpus));
  else
    NIBBLE_DO(read_plain(options, tokenizer, corpus));
  if (options.windows > 0 && corpus.windows.size() > options.windows)
    corpus.windows.resize(options.windows);
  if (corpus.tokens() < 2)
    return fail(ErrorCode::invalid, "{}: no text to calibrate on", corpus.name);
  return corpus;
}

}  // namespace nibble
