#include "plan/pattern.h"

#include <gtest/gtest.h>

#include <regex>

namespace nibble {
namespace {

TEST(Pattern, AgreesWithStdRegex) {
  const char* patterns[] = {"ffn_down",
                            "attn_[vk]",
                            "^blk\\.(0|1|2)\\.",
                            "blk\\.\\d+\\.ffn_(up|gate)",
                            "weight$",
                            "a*b+c?",
                            "(ab|cd){2}",
                            "x{2,3}y",
                            "x{2,}y",
                            "[^a-z]_",
                            "blk.[0-9].*norm",
                            "^$",
                            "(a|b)*c",
                            "(?:attn)_q",
                            "[]x]",
                            "\\w\\W\\s?"};
  const char* names[] = {"blk.0.ffn_down.weight",
                         "blk.12.attn_v.weight",
                         "token_embd.weight",
                         "blk.3.attn_norm.weight",
                         "aabbc",
                         "abcd",
                         "cdab",
                         "xxy",
                         "xxxxy",
                         "",
                         "]",
                         "A_",
                         "output.weight",
                         "ababac"};
  for (const char* text : patterns) {
    const auto pattern = Pattern::compile(text);
    ASSERT_TRUE(pattern) << pattern.error().message();
    for (const std::string name : names) {
      // ECMAScript reads "[]x]" otherwise; POSIX extended is what is meant there.
      if (std::string(text) == "[]x]") {
        EXPECT_EQ(pattern->search(name), name.find_first_of("]x") != name.npos) << name;
        continue;
      }
      EXPECT_EQ(pattern->search(name), std::regex_search(name, std::regex(text)))
          << text << " on " << name;
    }
  }
}

TEST(Pattern, HostilePatternsStayLinear) {
  const auto nested = Pattern::compile("(a+)+(a+)+(a*)*(a|a)*(a|aa)+$b");
  ASSERT_TRUE(nested);
  EXPECT_FALSE(nested->search(std::string(2000, 'a')));
}

TEST(Pattern, RefusesWhatItDoesNotUnderstand) {
  for (const char* text : {"", "(", ")", "a)", "[a", "[b-a]", "*a", "a{2,1}", "a{", "a{1", "a{999}",
                           "\\", "\\b", "(?=a)", "((((a{99}){99}){99}){99})"}) {
    const auto pattern = Pattern::compile(text);
    EXPECT_FALSE(pattern) << text;
  }
  EXPECT_FALSE(Pattern::compile(std::string(1000, '(')));
}

}  // namespace
}  // namespace nibble
