// The body of a request: fields are checked, messages understood, and calls of tools found in any
// text.
#include "fuzz/text.h"
#include "serve/ollama.h"
#include "serve/openai.h"
#include "serve/stop.h"
#include "serve/tools.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nibble;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const ToolAnswer answer = parse_tool_calls(text);
  NIBBLE_CHECK(text.starts_with(ToolReader(true).push(text, false).content));
  NIBBLE_CHECK(!answer.calls.empty() || answer.content == text);
  const auto body = parse_json(text);
  if (!body) return 0;
  const ApiLimits limits;
  if (const auto request = parse_openai(*body, limits); good(request)) {
    NIBBLE_CHECK(request->generation.choices >= 1 && request->generation.choices <= limits.choices);
    StopMatcher stop(request->generation.stop);
    for (const char c : text) (void)stop.push(std::string_view(&c, 1));
    (void)stop.finish();
  }
  (void)good(parse_ollama(*body, limits));
  if (const auto messages = chat_messages(*body); good(messages))
    for (const Json& message : *messages) NIBBLE_CHECK(message["content"].is_string());
  return 0;
}
