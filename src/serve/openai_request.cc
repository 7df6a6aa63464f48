#include <algorithm>
#include <charconv>
#include <random>

#include "base/utf8.h"
#include "serve/openai.h"

namespace nibble {
namespace {

Status parse_sampler(const Json& body, SamplerOptions& sampler) {
  NIBBLE_TRY(const double temperature, number_field(body, "temperature", 1, 0, 100));
  NIBBLE_TRY(const double top_p, number_field(body, "top_p", 1, 0, 1));
  NIBBLE_TRY(const double min_p, number_field(body, "min_p", 0, 0, 1));
  NIBBLE_TRY(const auto top_k, whole_field(body, "top_k", 0, -1, INT32_MAX));
  NIBBLE_TRY(const double presence, number_field(body, "presence_penalty", 0, -2, 2));
  NIBBLE_TRY(const double frequency, number_field(body, "frequency_penalty", 0, -2, 2));
  NIBBLE_TRY(const double repetition, number_field(body, "repetition_penalty", 1, 0.1, 10));
  NIBBLE_TRY(const auto seed,
             whole_field(body, "seed", std::int64_t(std::random_device{}()), INT64_MIN, INT64_MAX));
  sampler.temperature = float(temperature), sampler.top_p = float(top_p);
  sampler.min_p = float(min_p), sampler.top_k = int(top_k);
  sampler.presence_penalty = float(presence), sampler.frequency_penalty = float(frequency);
  sampler.repetition_penalty = float(repetition);
  sampler.seed = std::uint64_t(seed);
  return {};
}

/// {"50256": -100}
Status parse_bias(const Json& body, SamplerOptions& sampler) {
  if (!body.contains("logit_bias") || body["logit_bias"].is_null()) return {};
  const Json& bias = body["logit_bias"];
  if (!bias.is_object() || bias.size() > 1024)
    return fail(ErrorCode::invalid, "field 'logit_bias' must be an object of at most 1024 tokens");
  for (const auto& [key, value] : bias.items()) {
    Token token = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (error != std::errc() || end != key.data() + key.size() || !value.is_number())
      return fail(ErrorCode::invalid, "field 'logit_bias' must map token ids to numbers");
    sampler.bias.emplace_back(token, std::clamp(value.get<float>(), -100.0f, 100.0f));
  }
  return {};
}

/// Chat: "logprobs": true, "top_logprobs": 5. Text: "logprobs": 5.
Status parse_logprobs(const Json& body, const ApiLimits& limits, std::optional<int>& top) {
  if (!body.contains("logprobs") || body["logprobs"].is_null()) return {};
  if (body["logprobs"].is_number()) {
    NIBBLE_TRY(const auto count, whole_field(body, "logprobs", 0, 0, limits.top_logprobs));
    top = int(count);
    return {};
  }
  NIBBLE_TRY(const bool wanted, json_bool_or(body, "logprobs", false));
  NIBBLE_TRY(const auto count, whole_field(body, "top_logprobs", 0, 0, limits.top_logprobs));
  if (wanted) top = int(count);
  return {};
}

Status parse_stream(const Json& body, OpenAiRequest& request) {
  NIBBLE_TRY(request.stream, json_bool_or(body, "stream", false));
  if (!body.contains("stream_options") || body["stream_options"].is_null()) return {};
  NIBBLE_TRY(request.usage, json_bool_or(body["stream_options"], "include_usage", false));
  return {};
}

/// "none", "auto", "required", or {"type": "function", "function": {"name": ...}}.
Status parse_tool_choice(const Json& body, OpenAiRequest& request) {
  request.tools = has_tools(body);
  if (!body.contains("tool_choice") || body["tool_choice"].is_null()) return {};
  const Json& choice = body["tool_choice"];
  if (choice == "auto") return {};
  if (choice == "none") {
    request.tools = false;
    return {};
  }
  if (!request.tools)
    return fail(ErrorCode::invalid, "field 'tool_choice' wants a call, and there are no tools");
  if (choice == "required") {
    request.call = "";
    return {};
  }
  if (!choice.is_object() || !choice.contains("function"))
    return fail(ErrorCode::invalid,
                "field 'tool_choice' must be \"none\", \"auto\", \"required\" or name a function");
  NIBBLE_TRY_IN("field 'tool_choice'", request.call, json_string(choice["function"], "name"));
  return {};
}

/// The schema in {"type": "json_schema", "json_schema": {"schema": {...}}}, any object in {"type":
/// "json_object"}, null in {"type": "text"}.
Result<OrderedJson> schema_of(const OrderedJson& format) {
  const std::string type = format.is_object() ? format.value("type", OrderedJson()).dump() : "";
  if (type == "\"text\"") return OrderedJson();
  if (type == "\"json_object\"") return OrderedJson{{"type", "object"}};
  if (type != "\"json_schema\"")
    return fail(ErrorCode::invalid, "its type must be text, json_object or json_schema");
  const auto named = format.find("json_schema");
  if (named == format.end() || !named->is_object() || !named->contains("schema") ||
      !(*named)["schema"].is_object())
    return fail(ErrorCode::invalid, "it needs \"json_schema\" with an object \"schema\"");
  return (*named)["schema"];
}

/// Compiles what the answer is to follow.
Status parse_form(const OrderedJson& body, const ServedModel& model, OpenAiRequest& request) {
  OrderedJson schema;
  if (body.contains("response_format") && !body["response_format"].is_null()) {
    NIBBLE_TRY_IN("field 'response_format'", schema, schema_of(body["response_format"]));
  }
  if (request.call && !schema.is_null())
    return fail(ErrorCode::invalid, "'tool_choice' and 'response_format' want different answers");
  if (request.call) return follow_tools(model, body["tools"], *request.call, request.generation);
  if (schema.is_null()) return {};
  NIBBLE_DO_IN("field 'response_format'",
               follow_schema(model, std::move(schema), request.generation));
  return {};
}

}  // namespace

Result<OpenAiRequest> parse_openai(const Json& body, const ApiLimits& limits) {
  OpenAiRequest request;
  GenerationRequest& generation = request.generation;
  NIBBLE_DO(parse_sampler(body, generation.sampler));
  NIBBLE_DO(parse_bias(body, generation.sampler));
  NIBBLE_DO(parse_logprobs(body, limits, generation.top_logprobs));
  NIBBLE_DO(parse_stream(body, request));
  NIBBLE_TRY(generation.stop, strings_field(body, "stop", limits));
  NIBBLE_TRY(const auto choices, whole_field(body, "n", 1, 1, limits.choices));
  NIBBLE_TRY(const auto limit, whole_field(body, "max_tokens", 0, 1, UINT32_MAX));
  NIBBLE_TRY(const auto newer, whole_field(body, "max_completion_tokens", limit, 1, UINT32_MAX));
  generation.choices = int(choices), generation.limit = std::uint32_t(newer);
  return request;
}

Status parse_openai_text(const Json& body, const OrderedJson& ordered, const ServedModel& model,
                         OpenAiRequest& request) {
  if (request.generation.limit == 0) request.generation.limit = 16;  // what OpenAI's API does
  NIBBLE_TRY(request.generation.prompt, token_prompt(body, "prompt", model));
  NIBBLE_DO(parse_form(ordered, model, request));
  return fit_context(model, request.generation);
}

Status parse_openai_chat(const Json& body, const OrderedJson& ordered, const ServedModel& model,
                         OpenAiRequest& request) {
  request.chat = true;
  NIBBLE_DO(parse_tool_choice(body, request));
  NIBBLE_DO(parse_form(ordered, model, request));
  NIBBLE_TRY(const Json messages, chat_messages(body));
  Json variables = Json::object();
  if (request.tools) variables["tools"] = body["tools"];
  if (body.contains("chat_template_kwargs") && body["chat_template_kwargs"].is_object())
    variables.update(body["chat_template_kwargs"]);
  NIBBLE_TRY(request.generation.prompt, chat_prompt(model, messages, variables));
  return fit_context(model, request.generation);
}

}  // namespace nibble
