#include "serve/openai.h"

#include <chrono>

#include "serve/tools.h"

namespace nibble {
namespace {

const char* reason_text(FinishReason reason) {
  return reason == FinishReason::length ? "length" : "stop";
}

Json usage_of(std::size_t prompt, std::size_t generated, std::size_t reused) {
  return {{"prompt_tokens", prompt},
          {"completion_tokens", generated},
          {"total_tokens", prompt + generated},
          {"prompt_tokens_details", {{"cached_tokens", reused}}}};
}

Json bytes_of(const std::string& text) {
  Json out = Json::array();
  for (const char c : text) out.push_back(std::uint8_t(c));
  return out;
}

Json scored(const ScoredToken& token) {
  return {{"token", token.bytes}, {"logprob", token.logprob}, {"bytes", bytes_of(token.bytes)}};
}

Json chat_logprobs(const std::vector<TokenScores>& scores) {
  Json content = Json::array();
  for (const TokenScores& each : scores) {
    Json token = scored(each.token);
    token["top_logprobs"] = Json::array();
    for (const ScoredToken& other : each.top) token["top_logprobs"].push_back(scored(other));
    content.push_back(std::move(token));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

/// `offset`: bytes of the text before the first of the tokens.
Json text_logprobs(const std::vector<TokenScores>& scores, std::size_t offset) {
  Json tokens = Json::array(), logprobs = Json::array(), tops = Json::array(),
       offsets = Json::array();
  for (const TokenScores& each : scores) {
    tokens.push_back(each.token.bytes);
    logprobs.push_back(each.token.logprob);
    Json top = Json::object();
    for (const ScoredToken& other : each.top) top.emplace(valid_utf8(other.bytes), other.logprob);
    tops.push_back(std::move(top));
    offsets.push_back(offset);
    offset += each.token.bytes.size();
  }
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

Json tool_calls(const std::vector<ToolCall>& calls) {
  Json out = Json::array();
  for (const ToolCall& call : calls)
    out.push_back({{"index", out.size()},
                   {"id", random_id("call_")},
                   {"type", "function"},
                   {"function", {{"name", call.name}, {"arguments", dump(call.arguments)}}}});
  return out;
}

/// A completion on its way: what all of its documents say, and one choice's part of it.
class Answer {
 public:
  Answer(OpenAiRequest request, std::shared_ptr<JobStream> stream)
      : request_(std::move(request)),
        stream_(std::move(stream)),
        id_(random_id(request_.chat ? "chatcmpl-" : "cmpl-")),
        created_(std::chrono::duration_cast<std::chrono::seconds>(
                     std::chrono::system_clock::now().time_since_epoch())
                     .count()),
        shown_(std::size_t(stream_->request().choices), Shown{ToolReader(request_.tools)}) {}

  ServerReply whole();
  /// The next server-sent event, or nothing at the end.
  std::optional<std::string> next_chunk();

 private:
  struct Shown {
    ToolReader reader;
    bool begun = false;
    std::size_t bytes = 0;  // of the text so far
    std::uint32_t tokens = 0;
  };

  Json document(const char* object) const {
    return {{"id", id_},
            {"object", object},
            {"created", created_},
            {"model", stream_->model().name()},
            {"choices", Json::array()}};
  }
  Json choice(int index, const ChoiceResult& result) const;
  Json logprobs(const std::vector<TokenScores>& scores, std::size_t offset) const;
  std::string chunk(const GenerationEvent& event);
  Json delta(const GenerationEvent& event, Shown& shown, std::string& reason);
  std::string end();

  OpenAiRequest request_;
  std::shared_ptr<JobStream> stream_;
  std::string id_;
  std::int64_t created_;
  std::vector<Shown> shown_;
  std::uint32_t reused_ = 0;
  bool ended_ = false;
};

/// A server-sent event.
std::string sse(const Json& document) { return "data: " + dump(document) + "\n\n"; }

Json Answer::logprobs(const std::vector<TokenScores>& scores, std::size_t offset) const {
  if (!stream_->request().top_logprobs) return nullptr;
  return request_.chat ? chat_logprobs(scores) : text_logprobs(scores, offset);
}

Json Answer::choice(int index, const ChoiceResult& result) const {
  Json out = {{"index", index},
              {"logprobs", logprobs(result.scores, 0)},
              {"finish_reason", reason_text(result.finish)}};
  if (!request_.chat) {
    out["text"] = result.text;
    return out;
  }
  out["message"] = {{"role", "assistant"}, {"content", result.text}};
  const ToolAnswer answer = ToolReader(request_.tools).push(result.text, true);
  if (answer.calls.empty()) return out;
  out["message"]["content"] = answer.content.empty() ? Json() : Json(answer.content);
  out["message"]["tool_calls"] = tool_calls(answer.calls);
  out["finish_reason"] = "tool_calls";
  return out;
}

ServerReply Answer::whole() {
  const auto results = collect(*stream_);
  if (!results) return reply_to(results.error());
  Json out = document(request_.chat ? "chat.completion" : "text_completion");
  std::size_t tokens = 0;
  for (std::size_t i = 0; i < results->size(); ++i) {
    const ChoiceResult& result = (*results)[i];
    out["choices"].push_back(choice(int(i), result));
    tokens += result.tokens;
    reused_ = std::max(reused_, result.reused);
  }
  out["usage"] = usage_of(request_.generation.prompt.size(), tokens, reused_);
  return json_reply(out);
}

/// What the event adds to the message; sets the reason where that is a call.
Json Answer::delta(const GenerationEvent& event, Shown& shown, std::string& reason) {
  Json delta = Json::object();
  if (!shown.begun) delta["role"] = "assistant", delta["content"] = "";
  shown.begun = true;
  const ToolAnswer answer = shown.reader.push(event.text, event.finish.has_value());
  if (!answer.content.empty()) delta["content"] = answer.content;
  if (!answer.calls.empty()) {
    delta["tool_calls"] = tool_calls(answer.calls);
    reason = "tool_calls";
  }
  return delta;
}

std::string Answer::chunk(const GenerationEvent& event) {
  if (event.finish == FinishReason::failed) {
    ended_ = true;
    return "data: " + error_reply(500, event.error, "server_error").body + "\n\n";
  }
  Shown& shown = shown_[std::size_t(event.choice)];
  std::string reason;
  Json choice = {{"index", event.choice}, {"logprobs", logprobs(event.scores, shown.bytes)}};
  if (request_.chat)
    choice["delta"] = delta(event, shown, reason);
  else
    choice["text"] = event.text;
  if (event.finish && reason.empty()) reason = reason_text(*event.finish);
  choice["finish_reason"] = reason.empty() ? Json() : Json(reason);
  shown.bytes += event.text.size(), shown.tokens = event.tokens;
  reused_ = std::max(reused_, event.reused);
  Json out = document(request_.chat ? "chat.completion.chunk" : "text_completion");
  out["choices"].push_back(std::move(choice));
  if (request_.usage) out["usage"] = nullptr;
  return sse(out);
}

std::string Answer::end() {
  ended_ = true;
  std::string out;
  if (request_.usage) {
    std::size_t tokens = 0;
    for (const Shown& shown : shown_) tokens += shown.tokens;
    Json last = document(request_.chat ? "chat.completion.chunk" : "text_completion");
    last["usage"] = usage_of(request_.generation.prompt.size(), tokens, reused_);
    out = sse(last);
  }
  return out + "data: [DONE]\n\n";
}

std::optional<std::string> Answer::next_chunk() {
  if (ended_) return std::nullopt;
  if (const auto event = stream_->next()) return chunk(*event);
  return end();
}

Result<std::shared_ptr<ServedModel>> find_model(ModelTable& models, const Json& body) {
  NIBBLE_TRY(const std::string name, json_string_or(body, "model", models.first()));
  return models.get(name);
}

ServerReply no_model(const Error& error) {
  switch (error.code()) {
    case ErrorCode::invalid:
      return error_reply(404, error.message(), "invalid_request_error");
    case ErrorCode::io:
      return reply_to(error);
    default:
      return error_reply(500, error.message(), "server_error");
  }
}

ServerReply answer(std::shared_ptr<ServedModel> model, OpenAiRequest request,
                   const ApiLimits& limits, const ServerRequest& http) {
  auto stream = start_job(std::move(model), request.generation, limits, http);
  if (!stream) return reply_to(stream.error());
  const bool streams = request.stream;
  auto answer = std::make_shared<Answer>(std::move(request), std::move(*stream));
  if (!streams) return answer->whole();
  ServerReply reply{.type = "text/event-stream"};
  reply.headers.emplace_back("Cache-Control", "no-cache");
  reply.stream = [answer] { return answer->next_chunk(); };
  return reply;
}

using Parse = Status(const Json&, const OrderedJson&, const ServedModel&, OpenAiRequest&);

ServerReply respond(ModelTable& models, const ApiLimits& limits, const ServerRequest& http,
                    Parse* parse) {
  const auto body = parse_json(http.body);
  if (!body) return reply_to(body.error());
  auto model = find_model(models, *body);
  if (!model) return no_model(model.error());
  auto request = parse_openai(*body, limits);
  if (!request) return reply_to(request.error());
  const auto ordered = OrderedJson::parse(http.body);
  if (const auto parsed = parse(*body, ordered, **model, *request); !parsed)
    return reply_to(parsed.error());
  return answer(std::move(*model), std::move(*request), limits, http);
}

}  // namespace

ServerReply openai_models(const ModelTable& models) {
  Json data = Json::array();
  for (const ModelEntry& entry : models.entries())
    data.push_back({{"id", entry.name},
                    {"object", "model"},
                    {"created", entry.created},
                    {"owned_by", "nibble"}});
  return json_reply({{"object", "list"}, {"data", std::move(data)}});
}

ServerReply openai_chat(ModelTable& models, const ApiLimits& limits, const ServerRequest& http) {
  return respond(models, limits, http, parse_openai_chat);
}

ServerReply openai_completions(ModelTable& models, const ApiLimits& limits,
                               const ServerRequest& http) {
  return respond(models, limits, http, parse_openai_text);
}

ServerReply openai_embeddings(ModelTable& models, const ApiLimits& limits,
                              const ServerRequest& http) {
  const auto body = parse_json(http.body);
  if (!body) return reply_to(body.error());
  const auto model = find_model(models, *body);
  if (!model) return no_model(model.error());
  const auto inputs = embedding_inputs(*body, "input", **model);
  if (!inputs) return reply_to(inputs.error());
  const auto format = json_string_or(*body, "encoding_format", "float");
  if (!format) return reply_to(format.error());
  const auto embeddings = embed(*model, *inputs, limits, http);
  if (!embeddings) return reply_to(embeddings.error());
  Json data = Json::array();
  for (const auto& vector : embeddings->vectors) {
    data.push_back({{"object", "embedding"}, {"index", data.size()}});
    data.back()["embedding"] = *format == "base64" ? Json(base64_floats(vector)) : Json(vector);
  }
  return json_reply(
      {{"object", "list"},
       {"data", std::move(data)},
       {"model", (*model)->name()},
       {"usage", {{"prompt_tokens", embeddings->tokens}, {"total_tokens", embeddings->tokens}}}});
}

}  // namespace nibble
