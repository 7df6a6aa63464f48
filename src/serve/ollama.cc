#include "serve/ollama.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <ctime>

#include "base/hash.h"
#include "serve/tools.h"

namespace nibble {
namespace {

using Clock = GenerationJob::Clock;

std::string time_text(std::int64_t seconds) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time_t(seconds)));
}

std::string now_text() { return time_text(std::int64_t(std::time(nullptr))); }

std::int64_t nanoseconds(Clock::duration time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
}

/// "SmolLM2:latest" is "SmolLM2".
std::string plain_name(std::string name) {
  constexpr std::string_view kLatest = ":latest";
  if (name.ends_with(kLatest)) name.resize(name.size() - kLatest.size());
  return name;
}

Result<std::string> model_name(const Json& body) {
  NIBBLE_TRY(std::string older, json_string_or(body, "name", ""));
  NIBBLE_TRY(std::string name, json_string_or(body, "model", std::move(older)));
  return plain_name(std::move(name));
}

ServerReply no_model(const Error& error, const std::string& name) {
  if (error.code() != ErrorCode::invalid) return ollama_error(error);
  return {.status = 404, .body = dump({{"error", fmt::format("model '{}' not found", name)}})};
}

std::string digest_of(const ModelEntry& entry) {
  Sha256 hash;
  const std::string about = fmt::format("{} {} {}", entry.name, entry.file_bytes, entry.created);
  hash.update(std::as_bytes(std::span(about)));
  return hash.hex();
}

Json details_of(const ModelEntry& entry) {
  return {{"parent_model", ""},
          {"format", "gguf"},
          {"family", entry.architecture},
          {"families", {entry.architecture}},
          {"parameter_size", fmt::format("{:.1f}M", double(entry.parameters) / 1e6)},
          {"quantization_level", entry.format}};
}

Json summary_of(const ModelEntry& entry) {
  return {{"name", entry.name},
          {"model", entry.name},
          {"modified_at", time_text(entry.created)},
          {"size", entry.file_bytes},
          {"digest", digest_of(entry)},
          {"details", details_of(entry)}};
}

/// A chat template that never speaks of tools takes none.
Json capabilities_of(const ModelEntry& entry) {
  Json out = {"completion", "embedding"};
  if (entry.chat_template.find("tools") != std::string::npos) out.push_back("tools");
  return out;
}

/// An answer on its way.
class OllamaAnswer {
 public:
  OllamaAnswer(OllamaRequest request, ModelTable& models, std::shared_ptr<JobStream> stream)
      : request_(std::move(request)), models_(models), stream_(std::move(stream)) {}
  ~OllamaAnswer() {
    const std::string name = stream_->model().name();
    stream_.reset();
    if (request_.unload) (void)models_.unload(name);
  }
  OllamaAnswer(const OllamaAnswer&) = delete;
  OllamaAnswer& operator=(const OllamaAnswer&) = delete;

  ServerReply whole();
  /// The next line, or nothing at the end.
  std::optional<std::string> next_line();

 private:
  Json piece(const std::string& text) const;
  Json message(const ToolAnswer& answer) const;
  void add_summary(Json& line, FinishReason reason, std::uint32_t tokens) const;

  OllamaRequest request_;
  ModelTable& models_;
  std::shared_ptr<JobStream> stream_;
  ToolReader reader_{request_.tools};
  std::optional<Clock::time_point> first_;
  bool ended_ = false;
};

Json OllamaAnswer::piece(const std::string& text) const {
  Json line = {{"model", stream_->model().name()}, {"created_at", now_text()}, {"done", false}};
  if (request_.chat)
    line["message"] = {{"role", "assistant"}, {"content", text}};
  else
    line["response"] = text;
  return line;
}

Json OllamaAnswer::message(const ToolAnswer& answer) const {
  Json line = piece(answer.content);
  for (const ToolCall& call : answer.calls)
    line["message"]["tool_calls"].push_back(
        {{"function", {{"name", call.name}, {"arguments", call.arguments}}}});
  return line;
}

void OllamaAnswer::add_summary(Json& line, FinishReason reason, std::uint32_t tokens) const {
  const auto now = Clock::now(), begin = stream_->job().submitted, first = first_.value_or(now);
  line["done"] = true;
  line["done_reason"] = reason == FinishReason::length ? "length" : "stop";
  line["total_duration"] = nanoseconds(now - begin);
  line["load_duration"] = 0;
  line["prompt_eval_count"] = request_.generation.prompt.size();
  line["prompt_eval_duration"] = nanoseconds(first - begin);
  line["eval_count"] = tokens;
  line["eval_duration"] = nanoseconds(now - first);
}

ServerReply OllamaAnswer::whole() {
  const auto results = collect(*stream_);
  if (!results) return ollama_error(results.error());
  const ChoiceResult& result = results->front();
  Json line = message(reader_.push(result.text, true));
  add_summary(line, result.finish, result.tokens);
  return json_reply(line);
}

std::optional<std::string> OllamaAnswer::next_line() {
  if (ended_) return std::nullopt;
  const auto event = stream_->next();
  ended_ = !event || event->finish;
  if (!event) return std::nullopt;
  if (!first_) first_ = Clock::now();
  if (event->finish == FinishReason::failed) return dump({{"error", event->error}}) + "\n";
  Json line = message(reader_.push(event->text, event->finish.has_value()));
  if (event->finish) add_summary(line, *event->finish, event->tokens);
  return dump(line) + "\n";
}

Result<std::vector<Token>> generate_prompt(const Json& body, const ServedModel& model) {
  NIBBLE_TRY(const std::string prompt, json_string_or(body, "prompt", ""));
  NIBBLE_TRY(const std::string system, json_string_or(body, "system", ""));
  NIBBLE_TRY(const bool raw, json_bool_or(body, "raw", false));
  if (raw || !model.tokenizer().has_chat_template()) return text_prompt(model, prompt);
  Json messages = Json::array();
  if (!system.empty()) messages.push_back({{"role", "system"}, {"content", system}});
  messages.push_back({{"role", "user"}, {"content", prompt}});
  return chat_prompt(model, messages, {});
}

Result<OllamaRequest> generate_request(const Json& body, const ServedModel& model,
                                       const ApiLimits& limits) {
  NIBBLE_TRY(OllamaRequest request, parse_ollama(body, limits));
  NIBBLE_TRY(request.generation.prompt, generate_prompt(body, model));
  NIBBLE_DO(fit_context(model, request.generation));
  return request;
}

Result<OllamaRequest> chat_request(const Json& body, const ServedModel& model,
                                   const ApiLimits& limits) {
  NIBBLE_TRY(OllamaRequest request, parse_ollama(body, limits));
  request.chat = true;
  NIBBLE_TRY(const Json messages, chat_messages(body));
  Json variables = Json::object();
  request.tools = has_tools(body);
  if (request.tools) variables["tools"] = body["tools"];
  NIBBLE_TRY(request.generation.prompt, chat_prompt(model, messages, variables));
  NIBBLE_DO(fit_context(model, request.generation));
  return request;
}

/// A request without a prompt or messages loads or unloads the model.
bool only_loads(const Json& body) {
  for (const char* field : {"prompt", "messages"})
    if (body.contains(field) && !body[field].empty() && body[field] != "") return false;
  return true;
}

ServerReply load_or_unload(ModelTable& models, const Json& body, const std::string& name,
                           const ApiLimits& limits) {
  const auto request = parse_ollama(body, limits);
  if (!request) return ollama_error(request.error());
  if (request->unload) (void)models.unload(name);
  return json_reply({{"model", name},
                     {"created_at", now_text()},
                     {"response", ""},
                     {"done", true},
                     {"done_reason", request->unload ? "unload" : "load"}});
}

using ParseOllama = Result<OllamaRequest>(const Json&, const ServedModel&, const ApiLimits&);

ServerReply respond(ModelTable& models, const ApiLimits& limits, const ServerRequest& http,
                    ParseOllama* parse) {
  const auto body = parse_json(http.body);
  if (!body) return ollama_error(body.error());
  const auto name = model_name(*body);
  if (!name) return ollama_error(name.error());
  auto model = models.get(*name);
  if (!model) return no_model(model.error(), *name);
  if (only_loads(*body)) {
    model->reset();
    return load_or_unload(models, *body, *name, limits);
  }
  auto request = parse(*body, **model, limits);
  if (!request) return ollama_error(request.error());
  const auto ordered = OrderedJson::parse(http.body);
  if (const auto parsed = parse_ollama_format(ordered, **model, *request); !parsed)
    return ollama_error(parsed.error());
  auto stream = start_job(std::move(*model), request->generation, limits, http);
  if (!stream) return ollama_error(stream.error());
  const bool streams = request->stream;
  auto answer = std::make_shared<OllamaAnswer>(std::move(*request), models, std::move(*stream));
  if (!streams) return answer->whole();
  ServerReply reply{.type = "application/x-ndjson"};
  reply.stream = [answer] { return answer->next_line(); };
  return reply;
}

}  // namespace

ServerReply ollama_tags(const ModelTable& models) {
  Json list = Json::array();
  for (const ModelEntry& entry : models.entries()) list.push_back(summary_of(entry));
  return json_reply({{"models", std::move(list)}});
}

ServerReply ollama_ps(const ModelTable& models) {
  Json list = Json::array();
  for (const ModelEntry& entry : models.entries()) {
    if (!entry.loaded) continue;
    list.push_back(summary_of(entry));
    list.back()["size"] = entry.loaded->bytes();
    list.back()["size_vram"] = 0;
    list.back()["context_length"] = entry.loaded->context();
    list.back()["expires_at"] = "9999-01-01T00:00:00Z";
  }
  return json_reply({{"models", std::move(list)}});
}

ServerReply ollama_show(ModelTable& models, const ServerRequest& http) {
  const auto body = parse_json(http.body);
  if (!body) return ollama_error(body.error());
  const auto name = model_name(*body);
  if (!name) return ollama_error(name.error());
  for (const ModelEntry& entry : models.entries()) {
    if (entry.name != *name) continue;
    const std::string& arch = entry.architecture;
    const Json info = {{"general.architecture", arch},
                       {"general.parameter_count", entry.parameters},
                       {arch + ".context_length", entry.context},
                       {arch + ".embedding_length", entry.hidden}};
    return json_reply({{"modelfile", ""},
                       {"parameters", ""},
                       {"template", entry.chat_template},
                       {"modified_at", time_text(entry.created)},
                       {"details", details_of(entry)},
                       {"model_info", info},
                       {"capabilities", capabilities_of(entry)}});
  }
  return no_model(Error(ErrorCode::invalid, ""), *name);
}

ServerReply ollama_generate(ModelTable& models, const ApiLimits& limits,
                            const ServerRequest& http) {
  return respond(models, limits, http, generate_request);
}

ServerReply ollama_chat(ModelTable& models, const ApiLimits& limits, const ServerRequest& http) {
  return respond(models, limits, http, chat_request);
}

ServerReply ollama_embed(ModelTable& models, const ApiLimits& limits, const ServerRequest& http,
                         bool single) {
  const auto start = Clock::now();
  const auto body = parse_json(http.body);
  if (!body) return ollama_error(body.error());
  const auto name = model_name(*body);
  if (!name) return ollama_error(name.error());
  const auto model = models.get(*name);
  if (!model) return no_model(model.error(), *name);
  const auto inputs = embedding_inputs(*body, single ? "prompt" : "input", **model);
  if (!inputs) return ollama_error(inputs.error());
  const auto embeddings = embed(*model, *inputs, limits, http);
  if (!embeddings) return ollama_error(embeddings.error());
  if (single) return json_reply({{"embedding", embeddings->vectors[0]}});
  return json_reply({{"model", (*model)->name()},
                     {"embeddings", embeddings->vectors},
                     {"total_duration", nanoseconds(Clock::now() - start)},
                     {"load_duration", 0},
                     {"prompt_eval_count", embeddings->tokens}});
}

}  // namespace nibble
