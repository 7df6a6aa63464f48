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

/// Reads what a model writes piece by piece, and holds back what could be a call.
class ToolReader {
 public:
  /// Without tools everything is content.
  explicit ToolReader(bool tools) : tools_(tools) {}

  /// What another piece adds to the content; the calls come with the last one.
  ToolAnswer push(std::string_view piece, bool last);

 private:
  bool tools_;
  std::string held_ = {};
};

}  // namespace nibble
