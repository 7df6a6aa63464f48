#include "serve/tools.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

namespace nibble {
namespace {

constexpr std::string_view kOpen = "<tool_call>", kClose = "</tool_call>",
                           kMistral = "[TOOL_CALLS]";

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::optional<ToolCall> call_of(const Json& value) {
  if (!value.is_object() || !value.contains("name") || !value["name"].is_string())
    return std::nullopt;
  ToolCall call{.name = value["name"].get<std::string>(), .arguments = Json::object()};
  for (const char* field : {"arguments", "parameters"})
    if (value.contains(field) && value[field].is_object()) call.arguments = value[field];
  return call;
}

/// A call, or a list of calls, as JSON; all or none.
std::vector<ToolCall> calls_of(std::string_view text) {
  const auto json = parse_json(text);
  if (!json) return {};
  std::vector<ToolCall> calls;
  for (const Json& value : json->is_array() ? *json : Json::array({*json})) {
    auto call = call_of(value);
    if (!call) return {};
    calls.push_back(std::move(*call));
  }
  return calls;
}

/// Where the text that may be shown at once ends: from there on it could be a call.
std::size_t tool_call_begin(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == text.npos) return 0;
  const std::string_view start = text.substr(first);
  if (start[0] == '{' || kMistral.substr(0, start.size()) == start.substr(0, kMistral.size()))
    return 0;
  if (const std::size_t at = text.find(kOpen); at != text.npos) return at;
  for (std::size_t n = std::min(kOpen.size() - 1, text.size()); n > 0; --n)
    if (text.ends_with(kOpen.substr(0, n))) return text.size() - n;
  return text.size();
}

}  // namespace

ToolAnswer parse_tool_calls(std::string_view text) {
  ToolAnswer answer;
  std::string_view rest = trimmed(text);
  if (rest.starts_with(kMistral)) {
    answer.calls = calls_of(trimmed(rest.substr(kMistral.size())));
    rest = {};
  } else if (rest.starts_with("{")) {
    answer.calls = calls_of(rest);
    rest = {};
  }
  for (std::size_t at; (at = rest.find(kOpen)) != rest.npos;) {
    answer.content += rest.substr(0, at);
    rest.remove_prefix(at + kOpen.size());
    const std::size_t end = std::min(rest.find(kClose), rest.size());
    auto calls = calls_of(trimmed(rest.substr(0, end)));
    if (calls.empty()) return {.content = std::string(text), .calls = {}};
    std::move(calls.begin(), calls.end(), std::back_inserter(answer.calls));
    rest.remove_prefix(std::min(rest.size(), end + kClose.size()));
  }
  if (answer.calls.empty()) return {.content = std::string(text), .calls = {}};
  answer.content = std::string(trimmed(answer.content + std::string(rest)));
  return answer;
}

ToolAnswer ToolReader::push(std::string_view piece, bool last) {
  if (!tools_) return {.content = std::string(piece), .calls = {}};
  held_ += piece;
  if (last) return parse_tool_calls(std::exchange(held_, {}));
  ToolAnswer answer{.content = held_.substr(0, tool_call_begin(held_)), .calls = {}};
  held_.erase(0, answer.content.size());
  return answer;
}

}  // namespace nibble
