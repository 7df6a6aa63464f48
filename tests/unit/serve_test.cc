// Parts of the server that need no connection.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "serve/api.h"
#include "serve/openai.h"
#include "serve/rate.h"
#include "serve/stop.h"
#include "serve/tools.h"

namespace nibble {
namespace {

/// What gets through, for pieces that end at every place.
std::string shown(const std::vector<std::string>& stops, const std::string& text, std::size_t piece,
                  bool* found = nullptr) {
  StopMatcher matcher(stops);
  std::string out;
  for (std::size_t at = 0; at < text.size(); at += piece)
    out += matcher.push(text.substr(at, piece));
  if (found) *found = matcher.found();
  return out + matcher.finish();
}

TEST(Stop, IsFoundHoweverTheTextIsCut) {
  for (std::size_t piece = 1; piece < 12; ++piece) {
    bool found = false;
    EXPECT_EQ(shown({"END", "\n\n"}, "one EN two END three", piece, &found), "one EN two ");
    EXPECT_TRUE(found);
    EXPECT_EQ(shown({"END", "\n\n"}, "one\n\ntwo END", piece), "one");
    EXPECT_EQ(shown({"END"}, "at the EN", piece, &found), "at the EN");
    EXPECT_FALSE(found);
    EXPECT_EQ(shown({"aab"}, "aaab", piece), "a");  // a beginning within a beginning
    EXPECT_EQ(shown({}, "anything", piece), "anything");
  }
}

TEST(TokenRate, IsTheMeanOfTheLastSeconds) {
  using namespace std::chrono_literals;
  const TokenRate::Clock::time_point start{};
  TokenRate rate;
  EXPECT_EQ(rate.per_second(start), 0);
  for (int i = 0; i < 100; ++i) rate.add(2, start + i * 100ms);  // 20 a second
  EXPECT_NEAR(rate.per_second(start + 10s), 20, 2);
  EXPECT_NEAR(rate.per_second(start + 12s), 12, 2);  // 3 seconds of work in 5
  EXPECT_EQ(rate.per_second(start + 16s), 0);
  rate.add(50, start + 20s);
  EXPECT_EQ(rate.per_second(start + 21s), 50);
}

TEST(Stop, HoldsBackOnlyWhatCouldBeOne) {
  StopMatcher matcher({"STOP"});
  EXPECT_EQ(matcher.push("go S"), "go ");
  EXPECT_EQ(matcher.push("TO"), "");
  EXPECT_EQ(matcher.push("RE"), "STORE");
  EXPECT_EQ(matcher.push("STOP now"), "");
  EXPECT_EQ(matcher.push("more"), "");
}

TEST(Tools, UsualFormsAreUnderstood) {
  const auto hermes = parse_tool_calls(
      "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>\n"
      "<tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>");
  ASSERT_EQ(hermes.calls.size(), 2u);
  EXPECT_EQ(hermes.content, "Let me see.");
  EXPECT_EQ(hermes.calls[0].name, "f");
  EXPECT_EQ(hermes.calls[0].arguments, Json({{"x", 1}}));
  EXPECT_EQ(hermes.calls[1].name, "g");
  const auto mistral =
      parse_tool_calls("[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"x\": 1}}]");
  ASSERT_EQ(mistral.calls.size(), 1u);
  EXPECT_EQ(mistral.content, "");
  const auto llama = parse_tool_calls(" {\"name\": \"f\", \"parameters\": {\"x\": [1, {}]}}");
  ASSERT_EQ(llama.calls.size(), 1u);
  EXPECT_EQ(llama.calls[0].arguments, Json::parse(R"({"x": [1, {}]})"));
}

TEST(Tools, EverythingElseIsText) {
  for (const char* text : {"", "plain", "{\"a\": 1}", "{\"name\": 1}", "<tool_call>{</tool_call>",
                           "[TOOL_CALLS] nothing", "<tool_call>", "{\"name\": \"f\""}) {
    const auto answer = parse_tool_calls(text);
    EXPECT_TRUE(answer.calls.empty()) << text;
    EXPECT_EQ(answer.content, text);
  }
}

TEST(Tools, WhatCouldBeACallIsNotShown) {
  const auto shown = [](const char* text) {
    return ToolReader(true).push(text, false).content.size();
  };
  EXPECT_EQ(shown("Hello there"), 11u);
  EXPECT_EQ(shown("Hello <tool"), 6u);
  EXPECT_EQ(shown("Hello <tool_call>{"), 6u);
  EXPECT_EQ(shown("a < b"), 5u);
  EXPECT_EQ(shown("{\"na"), 0u);
  EXPECT_EQ(shown("[TOOL"), 0u);
  EXPECT_EQ(shown("[1, 2]"), 6u);
  EXPECT_EQ(shown("  "), 0u);
}

TEST(Tools, PiecesMakeTheWholeText) {
  ToolReader reader(true);
  EXPECT_EQ(reader.push("1 <to", false).content, "1 ");
  EXPECT_EQ(reader.push("ols>", false).content, "<tools>");
  EXPECT_EQ(reader.push(" <tool_call>{\"name\": ", false).content, " ");
  const ToolAnswer last = reader.push("\"f\"}</tool_call>", true);
  ASSERT_EQ(last.calls.size(), 1u);
  EXPECT_EQ(last.calls[0].name, "f");
  EXPECT_EQ(last.content, "");
  EXPECT_EQ(ToolReader(false).push("<tool_call>{\"name\": \"f\"}", true).calls.size(), 0u);
}

TEST(Api, NumbersAreCheckedAndNamed) {
  const Json body = Json::parse(R"({"a": 1.5, "b": -3, "d": "x", "e": null})");
  EXPECT_EQ(*number_field(body, "a", 0, 0, 2), 1.5);
  EXPECT_EQ(*number_field(body, "none", 7, 0, 2), 7);
  EXPECT_EQ(*number_field(body, "e", 7, 0, 2), 7);
  EXPECT_EQ(*whole_field(body, "b", 0, -5, 5), -3);
  for (const char* field : {"a", "d"}) {
    const auto refused = whole_field(body, field, 0, -5, 5);
    ASSERT_FALSE(refused) << field;
    EXPECT_NE(refused.error().message().find(fmt::format("'{}'", field)), std::string::npos);
  }
  EXPECT_FALSE(number_field(body, "a", 0, 0, 1));
  EXPECT_FALSE(whole_field(body, "b", 0, 0, 5));
}

TEST(Api, Base64) {
  // 1.0f is 00 00 80 3f, -2.0f is 00 00 00 c0.
  EXPECT_EQ(base64_floats({1.0f}), "AACAPw==");
  EXPECT_EQ(base64_floats({1.0f, -2.0f}), "AACAPwAAAMA=");
  EXPECT_EQ(base64_floats({1.0f, 1.0f, 1.0f}), "AACAPwAAgD8AAIA/");
  EXPECT_EQ(base64_floats({}), "");
}

TEST(Api, MessagesBecomeWhatTemplatesWant) {
  const auto messages = chat_messages(Json::parse(R"({"messages": [
      {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
      {"role": "assistant", "content": null,
       "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]}]})"));
  ASSERT_TRUE(messages) << messages.error().message();
  EXPECT_EQ((*messages)[0]["role"], "system");
  EXPECT_EQ((*messages)[0]["content"], "ab");
  EXPECT_EQ((*messages)[1]["content"], "");
  EXPECT_EQ((*messages)[1]["tool_calls"][0]["function"]["arguments"], Json({{"x", 1}}));
}

TEST(Api, TextIsMadeValid) {
  EXPECT_EQ(valid_utf8("caf\xc3\xa9"), "caf\xc3\xa9");
  EXPECT_EQ(valid_utf8("\xff"), "\xef\xbf\xbd");
}

}  // namespace
}  // namespace nibble
