// The API of Ollama: /api/generate, chat, tags, show, ps, embed, embeddings.
#pragma once

#include "serve/api.h"

namespace nibble {

HttpReply ollama_tags(const ModelTable& models);
HttpReply ollama_ps(const ModelTable& models);
HttpReply ollama_show(ModelTable& models, const HttpRequest& http);
HttpReply ollama_generate(ModelTable& models, const ApiLimits& limits, const HttpRequest& http);
HttpReply ollama_chat(ModelTable& models, const ApiLimits& limits, const HttpRequest& http);
/// `single`: the older form with one prompt.
HttpReply ollama_embed(ModelTable& models, const ApiLimits& limits, const HttpRequest& http,
                       bool single);

/// What a request of Ollama's API asks for.
struct OllamaRequest {
  GenerationRequest generation = {};
  bool stream = true, chat = false, tools = false, unload = false;
};

/// "options", "stream", "keep_alive": all but the prompt.
Result<OllamaRequest> parse_ollama(const Json& body, const ApiLimits& limits);
/// An error in Ollama's form.
HttpReply ollama_error(const Error& error);

}  // namespace nibble
