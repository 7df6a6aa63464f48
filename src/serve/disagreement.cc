#include <algorithm>
#include <cmath>

#include "eval/metrics.h"
#include "serve/nibble.h"

namespace nibble {
namespace {

using Clock = GenerationJob::Clock;

/// So many rows of logits are held at a time, and jobs end with the pages of the cache, where the
/// next one finds everything before it.
constexpr std::size_t kRows = kPagePositions;

struct Question {
  std::shared_ptr<ServedModel> model, reference;
  std::vector<Token> tokens;
  std::size_t begin = 0;  // of the text
};

Result<std::shared_ptr<ServedModel>> model_field(ModelTable& models, const Json& body,
                                                 const char* field) {
  NIBBLE_TRY(const std::string name, json_string(body, field));
  auto model = models.get(name);
  if (model) return model;
  const Error& error = model.error();
  if (error.code() == ErrorCode::io)
    return fail(ErrorCode::io, "both models have to be loaded at once: {}", error.message());
  const bool ours = error.code() == ErrorCode::corrupt;
  return fail(ours ? ErrorCode::internal : error.code(), "field '{}': {}", field, error.message());
}

/// Predictions can be compared if the same number means the same token.
Status check_vocabularies(const ServedModel& a, const ServedModel& b) {
  const auto differ = [&](const std::string& where) {
    return fail(ErrorCode::invalid, "'{}' and '{}' have different vocabularies ({})", a.name(),
                b.name(), where);
  };
  if (a.config().vocab != b.config().vocab)
    return differ(fmt::format("{} and {} tokens", a.config().vocab, b.config().vocab));
  const std::size_t named = std::min(a.tokenizer().vocab_size(), b.tokenizer().vocab_size());
  for (Token t = 0; t < named; ++t)
    if (a.tokenizer().token_bytes(t) != b.tokenizer().token_bytes(t))
      return differ(fmt::format("token {}", t));
  return {};
}

Result<std::string> prompt_text(const Json& body, const ServedModel& model) {
  if (!body.contains("messages")) return json_string(body, "prompt");
  NIBBLE_TRY(const Json messages, chat_messages(body));
  return model.tokenizer().render_chat(messages, true);
}

/// The tokens of the text. Together with its prompt where that leaves the prompt's tokens as they
/// are: some tokenizers treat the beginning of a text in their own way.
Result<std::vector<Token>> text_tokens(const ServedModel& model, const std::string& prompt,
                                       const std::vector<Token>& before, const std::string& text) {
  NIBBLE_TRY(const auto joint, text_prompt(model, prompt + text));
  if (joint.size() > before.size() && std::equal(before.begin(), before.end(), joint.begin()))
    return std::vector<Token>(joint.begin() + std::ptrdiff_t(before.size()), joint.end());
  return model.tokenizer().encode(text, {.add_special = false, .parse_special = false});
}

Status parse_text(const Json& body, Question& out) {
  const ServedModel& model = *out.model;
  NIBBLE_TRY(const std::string prompt, prompt_text(body, model));
  NIBBLE_TRY(out.tokens, text_prompt(model, prompt));
  out.begin = out.tokens.size();
  if (out.begin == 0)
    return fail(ErrorCode::invalid,
                "the prompt is empty and the model has no BOS token to start from");
  std::vector<Token> text;
  if (body.contains("tokens")) {
    NIBBLE_TRY(text, token_prompt(body, "tokens", model));
  } else {
    NIBBLE_TRY(const std::string written, json_string(body, "text"));
    NIBBLE_TRY(text, text_tokens(model, prompt, out.tokens, written));
  }
  if (text.empty()) return fail(ErrorCode::invalid, "field 'text' has no tokens");
  out.tokens.insert(out.tokens.end(), text.begin(), text.end());
  const std::uint32_t context = std::min(model.context(), out.reference->context());
  if (out.tokens.size() > context)
    return fail(ErrorCode::invalid, "prompt and text have {} tokens, the context holds {}",
                out.tokens.size(), context);
  return {};
}

Result<Question> parse_question(ModelTable& models, const Json& body) {
  if (!body.is_object()) return fail(ErrorCode::invalid, "the body is no JSON object");
  Question out;
  NIBBLE_TRY(out.reference, model_field(models, body, "reference"));
  NIBBLE_TRY(out.model, model_field(models, body, "model"));
  if (out.model != out.reference) NIBBLE_DO(check_vocabularies(*out.model, *out.reference));
  NIBBLE_DO(parse_text(body, out));
  return out;
}

/// Goes through a text in small jobs, so that nobody else has to wait for all of it.
class Comparing {
 public:
  Comparing(Question question, const ApiLimits& limits, const ServerRequest& http)
      : question_(std::move(question)),
        limits_(limits),
        end_(Clock::now() + limits.request),
        http_(http),
        stream_(question_.model->tokenizer()),
        row_(question_.begin - 1) {}

  bool done() const { return row_ + 1 == question_.tokens.size(); }
  /// The next tokens.
  Result<Json> next();
  Json summary() const;

 private:
  Result<std::shared_ptr<JobStream>> start(const std::shared_ptr<ServedModel>& model,
                                           std::size_t end);
  Json token(std::span<const float> logits, std::span<const float> reference);

  const Question question_;
  ApiLimits limits_;
  const Clock::time_point end_;
  const ServerRequest http_;
  TextStream stream_;
  std::size_t row_;  // position whose prediction is looked at next
  std::vector<double> kld_, nll_, reference_nll_;
  std::size_t same_ = 0;
};

/// The model's logits of the positions from row_ to `end`.
Result<std::shared_ptr<JobStream>> Comparing::start(const std::shared_ptr<ServedModel>& model,
                                                    std::size_t end) {
  const auto left = std::chrono::duration_cast<std::chrono::seconds>(end_ - Clock::now());
  limits_.request = std::max(left, std::chrono::seconds(0));
  GenerationRequest request;
  request.prompt.assign(question_.tokens.begin(), question_.tokens.begin() + std::ptrdiff_t(end));
  request.scored = std::uint32_t(end - row_);
  return start_job(model, std::move(request), limits_, http_);
}

Json Comparing::token(std::span<const float> logits, std::span<const float> reference) {
  const ServedModel& model = *question_.model;
  const Token next = question_.tokens[row_ + 1];
  const Comparison found = compare_logits(logits, reference, next);
  kld_.push_back(found.kld), nll_.push_back(found.nll);
  reference_nll_.push_back(found.reference_nll);
  same_ += found.same_top;
  return {{"text", stream_.push(next)},
          {"logprob", -found.nll},
          {"reference_logprob", -found.reference_nll},
          {"kld", found.kld},
          {"top", model.tokenizer().token_bytes(argmax(logits))},
          {"reference_top", model.tokenizer().token_bytes(argmax(reference))}};
}

Result<Json> Comparing::next() {
  const std::size_t end = std::min((row_ / kRows + 1) * kRows, question_.tokens.size() - 1),
                    rows = end - row_;
  NIBBLE_TRY(const auto asked, start(question_.model, end));
  NIBBLE_TRY(const auto asked_reference, start(question_.reference, end));
  NIBBLE_TRY(const auto results, collect(*asked));
  NIBBLE_TRY(const auto references, collect(*asked_reference));
  const std::size_t vocab = question_.model->config().vocab;
  Json tokens = Json::array();
  for (std::size_t i = 0; i < rows; ++i, ++row_)
    tokens.push_back(token(std::span(results[0].logits).subspan(i * vocab, vocab),
                           std::span(references[0].logits).subspan(i * vocab, vocab)));
  if (done()) tokens.back()["text"] = tokens.back()["text"].get<std::string>() + stream_.finish();
  return tokens;
}

Json Comparing::summary() const {
  const double mean_nll = mean_of(nll_).value, mean_reference = mean_of(reference_nll_).value;
  return {{"model", question_.model->name()},
          {"reference", question_.reference->name()},
          {"kld_mean", mean_of(kld_).value},
          {"kld_max", *std::max_element(kld_.begin(), kld_.end())},
          {"same_top", double(same_) / double(kld_.size())},
          {"perplexity", std::exp(mean_nll)},
          {"reference_perplexity", std::exp(mean_reference)}};
}

ServerReply whole(Comparing& comparing) {
  Json tokens = Json::array();
  while (!comparing.done()) {
    const auto more = comparing.next();
    if (!more) return reply_to(more.error());
    tokens.insert(tokens.end(), more->begin(), more->end());
  }
  Json out = comparing.summary();
  out["tokens"] = std::move(tokens);
  return json_reply(out);
}

/// A line of JSON for each portion of tokens, and the summary in the last one.
ServerReply in_lines(std::shared_ptr<Comparing> comparing) {
  ServerReply reply{.type = "application/x-ndjson"};
  reply.headers.emplace_back("Cache-Control", "no-cache");
  reply.stream = [comparing, ended = false]() mutable -> std::optional<std::string> {
    if (ended) return std::nullopt;
    const auto more = comparing->next();
    Json line = Json::object();
    if (!more) {
      line["error"] = {{"message", more.error().message()}};
    } else {
      line["tokens"] = *more;
      if (comparing->done()) line.update(comparing->summary());
    }
    ended = !more || comparing->done();
    return dump(line) + "\n";
  };
  return reply;
}

}  // namespace

ServerReply nibble_compare(ModelTable& models, const ApiLimits& limits, const ServerRequest& http) {
  const auto body = parse_json(http.body);
  if (!body) return reply_to(body.error());
  auto question = parse_question(models, *body);
  if (!question) return reply_to(question.error());
  const auto streams = json_bool_or(*body, "stream", false);
  if (!streams) return reply_to(streams.error());
  auto comparing = std::make_shared<Comparing>(std::move(*question), limits, http);
  return *streams ? in_lines(std::move(comparing)) : whole(*comparing);
}

}  // namespace nibble
