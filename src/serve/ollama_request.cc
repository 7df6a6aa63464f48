#include <random>

#include "serve/ollama.h"

namespace nibble {
namespace {

/// With Ollama's defaults.
Status parse_options(const Json& options, const ApiLimits& limits, GenerationRequest& request) {
  SamplerOptions& sampler = request.sampler;
  NIBBLE_TRY(const double temperature, number_field(options, "temperature", 0.8, 0, 100));
  NIBBLE_TRY(const auto top_k, whole_field(options, "top_k", 40, -1, INT32_MAX));
  NIBBLE_TRY(const double top_p, number_field(options, "top_p", 0.9, 0, 1));
  NIBBLE_TRY(const double min_p, number_field(options, "min_p", 0, 0, 1));
  NIBBLE_TRY(const double repetition, number_field(options, "repeat_penalty", 1.1, 0.1, 10));
  NIBBLE_TRY(const auto window, whole_field(options, "repeat_last_n", 64, -1, 65536));
  NIBBLE_TRY(const double presence, number_field(options, "presence_penalty", 0, -2, 2));
  NIBBLE_TRY(const double frequency, number_field(options, "frequency_penalty", 0, -2, 2));
  NIBBLE_TRY(const auto seed, whole_field(options, "seed", std::int64_t(std::random_device{}()),
                                          INT64_MIN, INT64_MAX));
  NIBBLE_TRY(const auto limit, whole_field(options, "num_predict", -1, -2, UINT32_MAX));
  sampler.temperature = float(temperature), sampler.top_k = int(top_k);
  sampler.top_p = float(top_p), sampler.min_p = float(min_p);
  sampler.repetition_penalty = float(repetition);
  sampler.penalty_window = window < 0 ? 65536 : int(window);
  sampler.presence_penalty = float(presence), sampler.frequency_penalty = float(frequency);
  sampler.seed = std::uint64_t(seed);
  request.limit = limit > 0 ? std::uint32_t(limit) : 0;
  NIBBLE_TRY(request.stop, strings_field(options, "stop", limits));
  return {};
}

/// 0, "0", "0s": unload afterwards. All other times mean: until the memory is needed.
bool unloads(const Json& body) {
  if (!body.contains("keep_alive")) return false;
  const Json& value = body["keep_alive"];
  return value == 0 || value == "0" || value == "0s" || value == "0m";
}

/// What would change the answer must not be passed over.
Status refuse_unknown(const Json& body) {
  for (const char* field : {"images", "suffix", "template"})
    if (body.contains(field) && !body[field].empty() && body[field] != "")
      return fail(ErrorCode::invalid, "field '{}' is not supported here", field);
  return {};
}

}  // namespace

Result<OllamaRequest> parse_ollama(const Json& body, const ApiLimits& limits) {
  OllamaRequest request;
  NIBBLE_DO(refuse_unknown(body));
  if (body.contains("messages") && body["messages"].is_array())
    for (const Json& message : body["messages"]) NIBBLE_DO_IN("messages", refuse_unknown(message));
  const bool given = body.contains("options") && body["options"].is_object();
  NIBBLE_DO(parse_options(given ? body["options"] : Json::object(), limits, request.generation));
  NIBBLE_TRY(request.stream, json_bool_or(body, "stream", true));
  request.unload = unloads(body);
  return request;
}

Status parse_ollama_format(const OrderedJson& body, const ServedModel& model,
                           OllamaRequest& request) {
  if (!body.contains("format") || body["format"].is_null() || body["format"] == "") return {};
  OrderedJson format = body["format"];
  if (format == "json") format = {{"type", "object"}};
  if (!format.is_object())
    return fail(ErrorCode::invalid, "field 'format' must be \"json\" or a JSON schema");
  NIBBLE_DO_IN("field 'format'", follow_schema(model, std::move(format), request.generation));
  return {};
}

ServerReply ollama_error(const Error& error) {
  ServerReply reply = reply_to(error);
  reply.body = dump({{"error", error.message()}});
  return reply;
}

}  // namespace nibble
