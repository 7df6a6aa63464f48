// The API of Ollama: /api/generate, chat, tags, show, ps, embed, embeddings.
#pragma once

#include "serve/api.h"

namespace nibble {

ServerReply ollama_tags(const ModelTable& models);
ServerReply ollama_ps(const ModelTable& models);
ServerReply ollama_show(ModelTable& models, const ServerRequest& http);
ServerReply ollama_generate(ModelTable& models, const ApiLimits& limits, const ServerRequest& http);
ServerReply ollama_chat(ModelTable& models, const ApiLimits& limits, const ServerRequest& http);
/// `single`: the older form with one prompt.
ServerReply ollama_embed(ModelTable& models, const ApiLimits& limits, const ServerRequest& http,
                         bool single);

/// What a request of Ollama's API asks for.
struct OllamaRequest {
  GenerationRequest generation = {};
  bool stream = true, chat = false, tools = false, unload = false;
};

/// "options", "stream", "keep_alive": all but the prompt.
Result<OllamaRequest> parse_ollama(const Json& body, const ApiLimits& limits);
/// "format": "json" or a schema.
Status parse_ollama_format(const OrderedJson& body, const ServedModel& model,
                           OllamaRequest& request);
/// An error in Ollama's form.
ServerReply ollama_error(const Error& error);

}  // namespace nibble
