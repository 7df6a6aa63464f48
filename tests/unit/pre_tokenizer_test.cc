#include "text/pre_tokenizer.h"

#include <gtest/gtest.h>

namespace nibble {
namespace {

Json parsed(const char* text) { return *parse_json(text); }

TEST(PreTokenizer, EveryNameSurvivesTheRoundTrip) {
  for (const char* name : {"gpt-2", "smollm", "llama-bpe", "smaug-bpe", "qwen2", "qwen35", "tekken",
                           "gpt-4o", "deepseek-v3", "seed-coder", "default"}) {
    const auto kind = pre_tokenizer_of(name);
    ASSERT_TRUE(kind) << name;
    const auto back = pre_tokenizer_name(kind->pre_tokenizer, kind->ignore_merges);
    ASSERT_TRUE(back) << back.error().message();
    EXPECT_EQ(*back, name);
  }
}

TEST(PreTokenizer, SpellingsOfOnePatternAreOne) {
  const char* published = R"({"type": "Sequence", "pretokenizers": [
    {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
    {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})";
  const char* adapted = R"({"type": "Sequence", "pretokenizers": [
    {"type": "Split", "behavior": "Removed", "invert": true, "pattern": {"Regex":
      "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"}},
    {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})";
  EXPECT_EQ(*pre_tokenizer_name(parsed(published), true), "llama-bpe");
  EXPECT_EQ(*pre_tokenizer_name(parsed(adapted), true), "llama-bpe");
  EXPECT_EQ(*pre_tokenizer_name(parsed(published), false), "smaug-bpe");
}

TEST(PreTokenizer, UnknownStructureIsAnErrorThatShowsIt) {
  const char* other =
      R"({"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex": "[a-z]+"}})";
  const auto name = pre_tokenizer_name(parsed(other), false);
  ASSERT_FALSE(name);
  EXPECT_NE(name.error().message().find("[a-z]+"), std::string::npos);
  EXPECT_FALSE(pre_tokenizer_name(Json(), false));
  EXPECT_FALSE(pre_tokenizer_of("no-such-name"));
}

}  // namespace
}  // namespace nibble
