// The API of OpenAI: /v1/models, chat/completions, completions, embeddings.
#pragma once

#include "serve/api.h"

namespace nibble {

ServerReply openai_models(const ModelTable& models);
ServerReply openai_chat(ModelTable& models, const ApiLimits& limits, const ServerRequest& http);
ServerReply openai_completions(ModelTable& models, const ApiLimits& limits,
                               const ServerRequest& http);
ServerReply openai_embeddings(ModelTable& models, const ApiLimits& limits,
                              const ServerRequest& http);

/// What a request of OpenAI's API asks for.
struct OpenAiRequest {
  GenerationRequest generation = {};
  bool stream = false, usage = false, chat = false, tools = false;
  std::optional<std::string> call = {};  // the tool that is to be called; empty: any
};

/// Fields that chat and text completions share; the prompt is not among them.
Result<OpenAiRequest> parse_openai(const Json& body, const ApiLimits& limits);
/// The prompt of a text completion. `ordered`: the body again.
Status parse_openai_text(const Json& body, const OrderedJson& ordered, const ServedModel& model,
                         OpenAiRequest& request);
/// The prompt of a chat, with its tools.
Status parse_openai_chat(const Json& body, const OrderedJson& ordered, const ServedModel& model,
                         OpenAiRequest& request);

}  // namespace nibble
