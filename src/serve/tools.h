// Calls of tools in what a model wrote.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace nibble {

struct ToolCall {
  std::string name;
  Json arguments;  // an object
};

struct ToolAnswer {
  std::string content;  // what is no call
  std::vector<ToolCall> calls;
};

/// Understands what the usual templates ask for: <tool_call>{...}</tool_call> (Hermes, Qwen),
/// [TOOL_CALLS] [...] (Mistral), {"name": ..., "parameters": ...} as the whole text (Llama 3).
ToolAnswer parse_tool_calls(std::string_view text);

/// Where the text that may be shown at once ends: from there on it could be a call.
std::size_t tool_call_begin(std::string_view text);

}  // namespace nibble
