#include "serve/api.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <random>

#include "base/utf8.h"

namespace nibble {
namespace {

bool is_absent(const Json& body, const char* field) {
  return !body.contains(field) || body[field].is_null();
}

/// "text", or [{"type": "text", "text": "..."}].
Result<std::string> content_text(const Json& message) {
  if (is_absent(message, "content")) return std::string();
  const Json& content = message["content"];
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array())
    return fail(ErrorCode::invalid, "field 'content' is {}, expected a string or a list of parts",
                content.type_name());
  std::string text;
  for (const Json& part : content) {
    NIBBLE_TRY(const std::string type, json_string_or(part, "type", ""));
    if (type != "text")
      return fail(ErrorCode::invalid, "a part of the content is {}, only text is understood",
                  quote(type));
    NIBBLE_TRY(const std::string piece, json_string(part, "text"));
    text += piece;
  }
  return text;
}

/// Templates want the arguments of calls as objects; OpenAI's clients send them as text.
void open_arguments(Json& message) {
  if (!message.contains("tool_calls") || !message["tool_calls"].is_array()) return;
  for (Json& call : message["tool_calls"]) {
    if (!call.is_object() || !call.contains("function")) continue;
    Json& function = call["function"];
    if (!function.is_object() || !function.contains("arguments")) continue;
    if (!function["arguments"].is_string()) continue;
    if (auto parsed = parse_json(function["arguments"].get<std::string>()))
      function["arguments"] = std::move(*parsed);
  }
}

void scale_to_one(std::vector<float>& vector) {
  double square = 0;
  for (const float x : vector) square += double(x) * double(x);
  for (float& x : vector) x = square > 0 ? float(double(x) / std::sqrt(square)) : 0;
}

}  // namespace

Result<double> number_field(const Json& body, const char* field, double otherwise, double least,
                            double most) {
  NIBBLE_TRY(const double value, json_number_or(body, field, otherwise));
  if (std::isfinite(value) && value >= least && value <= most) return value;
  if (is_absent(body, field)) return value;
  return fail(ErrorCode::invalid, "field '{}' is {}, expected {} to {}", field, value, least, most);
}

Result<std::int64_t> whole_field(const Json& body, const char* field, std::int64_t otherwise,
                                 std::int64_t least, std::int64_t most) {
  if (is_absent(body, field)) return otherwise;
  const Json& value = body[field];
  const bool fits = value.is_number_unsigned() ? value.get<std::uint64_t>() <= INT64_MAX
                                               : value.is_number_integer();
  if (fits && value.get<std::int64_t>() >= least && value.get<std::int64_t>() <= most)
    return value.get<std::int64_t>();
  return fail(ErrorCode::invalid, "field '{}' is {}, expected a whole number from {} to {}", field,
              quote(dump(value)), least, most);
}

Result<std::vector<std::string>> strings_field(const Json& body, const char* field,
                                               const ApiLimits& limits) {
  std::vector<std::string> out;
  if (is_absent(body, field)) return out;
  const Json& value = body[field];
  const Json list = value.is_array() ? value : Json::array({value});
  for (const Json& each : list) {
    if (!each.is_string())
      return fail(ErrorCode::invalid, "field '{}' is {}, expected a string or a list of strings",
                  field, value.type_name());
    out.push_back(each.get<std::string>());
    if (out.back().empty() || out.back().size() > limits.stop_bytes)
      return fail(ErrorCode::invalid, "field '{}': a string must have 1 to {} bytes", field,
                  limits.stop_bytes);
  }
  if (out.size() > std::size_t(limits.stops))
    return fail(ErrorCode::invalid, "field '{}' has {} strings, {} at most", field, out.size(),
                limits.stops);
  return out;
}

Result<Json> chat_messages(const Json& body) {
  if (!body.contains("messages") || !body["messages"].is_array() || body["messages"].empty())
    return fail(ErrorCode::invalid, "field 'messages' must be a list of at least one message");
  Json out = Json::array();
  for (const Json& message : body["messages"]) {
    const std::string where = fmt::format("messages[{}]", out.size());
    if (!message.is_object()) return fail(ErrorCode::invalid, "{} is no object", where);
    Json copy = message;
    NIBBLE_TRY_IN(where, const std::string role, json_string(message, "role"));
    NIBBLE_TRY_IN(where, copy["content"], content_text(message));
    if (role == "developer") copy["role"] = "system";
    open_arguments(copy);
    out.push_back(std::move(copy));
  }
  return out;
}

bool has_tools(const Json& body) {
  return body.contains("tools") && body["tools"].is_array() && !body["tools"].empty();
}

Result<std::vector<Token>> chat_prompt(const ServedModel& model, const Json& messages,
                                       const Json& variables) {
  NIBBLE_TRY(const std::string text, model.tokenizer().render_chat(messages, true, variables));
  return model.tokenizer().encode(text, {.add_special = true, .parse_special = true});
}

Result<std::vector<Token>> text_prompt(const ServedModel& model, const std::string& text) {
  return model.tokenizer().encode(text, {.add_special = true, .parse_special = true});
}

Result<std::vector<Token>> token_prompt(const Json& body, const char* field,
                                        const ServedModel& model) {
  if (is_absent(body, field)) return fail(ErrorCode::invalid, "field '{}' is missing", field);
  const Json& prompt = body[field];
  if (prompt.is_string()) return text_prompt(model, prompt.get<std::string>());
  if (prompt.is_array() && prompt.size() == 1 && prompt[0].is_string())
    return text_prompt(model, prompt[0].get<std::string>());
  std::vector<Token> tokens;
  for (const Json& id : prompt.is_array() ? prompt : Json::array({prompt})) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= model.config().vocab)
      return fail(ErrorCode::invalid, "field '{}' holds {}, expected one string or token ids",
                  field, quote(dump(id)));
    tokens.push_back(id.get<Token>());
  }
  return tokens;
}

Result<std::vector<std::vector<Token>>> embedding_inputs(const Json& body, const char* field,
                                                         const ServedModel& model) {
  constexpr std::size_t kMost = 2048;
  if (is_absent(body, field)) return fail(ErrorCode::invalid, "field '{}' is missing", field);
  const Json& input = body[field];
  const bool several = input.is_array() && !input.empty() && !input[0].is_number();
  const Json list = several ? input : Json::array({input});
  if (list.size() > kMost)
    return fail(ErrorCode::invalid, "field '{}' has more than {} texts", field, kMost);
  std::vector<std::vector<Token>> out;
  for (const Json& each : list) {
    NIBBLE_TRY(auto tokens, token_prompt({{field, each}}, field, model));
    if (tokens.empty() || tokens.size() > model.context())
      return fail(ErrorCode::invalid, "field '{}': a text has {} tokens, expected 1 to {}", field,
                  tokens.size(), model.context());
    out.push_back(std::move(tokens));
  }
  return out;
}

Status fit_context(const ServedModel& model, GenerationRequest& request) {
  const std::size_t tokens = request.prompt.size();
  if (tokens == 0)
    return fail(ErrorCode::invalid,
                "the prompt is empty and the model has no BOS token to start from");
  if (tokens >= model.context())
    return fail(ErrorCode::invalid, "the prompt has {} tokens, the context holds {}", tokens,
                model.context());
  const auto room = std::uint32_t(model.context() - tokens);
  request.limit = request.limit == 0 ? room : std::min(request.limit, room);
  return {};
}

std::optional<GenerationEvent> JobStream::next() {
  using namespace std::chrono_literals;
  while (open_ > 0) {
    if (auto event = job_->next(100ms)) {
      open_ -= event->finish.has_value();
      return event;
    }
    if (is_gone_()) {
      job_->cancel();
      break;
    }
  }
  return std::nullopt;
}

Result<std::shared_ptr<JobStream>> start_job(std::shared_ptr<ServedModel> model,
                                             GenerationRequest request, const ApiLimits& limits,
                                             const ServerRequest& http) {
  auto job = std::make_shared<GenerationJob>(std::move(request),
                                             GenerationJob::Clock::now() + limits.request);
  if (!model->scheduler().submit(job))
    return fail(ErrorCode::io, "too many requests wait already; try again later");
  return std::make_shared<JobStream>(std::move(model), std::move(job), http.is_gone);
}

Result<std::vector<ChoiceResult>> collect(JobStream& stream) {
  std::vector<ChoiceResult> out(std::size_t(stream.request().choices));
  int finished = 0;
  while (auto event = stream.next()) {
    ChoiceResult& choice = out[std::size_t(event->choice)];
    choice.text += event->text;
    std::move(event->scores.begin(), event->scores.end(), std::back_inserter(choice.scores));
    choice.tokens = event->tokens, choice.reused = event->reused;
    if (!event->finish) continue;
    if (*event->finish == FinishReason::failed)
      return fail(ErrorCode::internal, "{}", event->error);
    choice.finish = *event->finish;
    choice.embedding = std::move(event->embedding);
    choice.logits = std::move(event->logits);
    ++finished;
  }
  if (finished < stream.request().choices)
    return fail(ErrorCode::cancelled, "the client closed the connection");
  return out;
}

Result<Embeddings> embed(const std::shared_ptr<ServedModel>& model,
                         const std::vector<std::vector<Token>>& texts, const ApiLimits& limits,
                         const ServerRequest& http) {
  Embeddings out;
  for (const auto& tokens : texts) {
    GenerationRequest request{.prompt = tokens};
    request.embed = true;
    NIBBLE_TRY(const auto stream, start_job(model, std::move(request), limits, http));
    NIBBLE_TRY(auto results, collect(*stream));
    out.vectors.push_back(std::move(results[0].embedding));
    scale_to_one(out.vectors.back());
    out.tokens += tokens.size();
  }
  return out;
}

std::string base64(std::string_view bytes) {
  constexpr const char* kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k)
      group = group << 8 | (i + k < bytes.size() ? std::uint8_t(bytes[i + k]) : 0u);
    for (std::size_t k = 0; k < 4; ++k)
      out += i + k <= bytes.size() ? kDigits[group >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

std::string base64_floats(const std::vector<float>& values) {
  return base64({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
}

std::string valid_utf8(const std::string& text) {
  return is_utf8(text) ? text : Json::parse(dump(Json(text))).get<std::string>();
}

std::string dump(const Json& document) {
  return document.dump(-1, ' ', false, Json::error_handler_t::replace);
}

ServerReply json_reply(const Json& document) { return {.body = dump(document)}; }

ServerReply reply_to(const Error& error) {
  switch (error.code()) {
    case ErrorCode::io:
      return error_reply(503, error.message(), "server_error");
    case ErrorCode::internal:
      return error_reply(500, error.message(), "server_error");
    case ErrorCode::cancelled:
      return error_reply(499, error.message(), "server_error");
    default:
      return error_reply(400, error.message(), "invalid_request_error");
  }
}

std::string random_id(std::string_view prefix) {
  static thread_local std::mt19937_64 generator{std::random_device{}()};
  return fmt::format("{}{:016x}", prefix, generator());
}

}  // namespace nibble
