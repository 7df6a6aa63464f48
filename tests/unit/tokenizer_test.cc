#include "text/tokenizer.h"

#include <gmock/gmock.h>

namespace nibble {
namespace {

/// A tokenizer of one token, with a chat template.
HfFiles files_with(std::string chat_template) {
  const Json token = {{"id", 0},         {"content", "<s>"}, {"single_word", false},
                      {"lstrip", false}, {"rstrip", false},  {"normalized", false},
                      {"special", true}};
  const Json model = {{"type", "WordLevel"}, {"vocab", {{"<s>", 0}}}, {"unk_token", "<s>"}};
  HfFiles files;
  files.tokenizer_json =
      Json{{"version", "1.0"}, {"added_tokens", {token}}, {"model", model}}.dump();
  files.chat_template = std::move(chat_template);
  return files;
}

Result<std::string> render(std::string chat_template) {
  NIBBLE_TRY(const auto tokenizer, Tokenizer::from_hf(files_with(std::move(chat_template))));
  return tokenizer.render_chat(Json::array({{{"role", "user"}, {"content", "hi"}}}), false);
}

std::string repeat(std::string_view text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

TEST(Tokenizer, RendersAChat) {
  const auto text = render("{{ messages[0].role }}: {{ messages[0].content }}");
  ASSERT_TRUE(text) << text.error().message();
  EXPECT_EQ(*text, "user: hi");
}

TEST(Tokenizer, TemplatesThatAttackTheProcessAreErrors) {
  const std::string hostile[] = {
      "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
      "{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}",
      "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}"
      "{% endfor %}",
      "{{ 'a' * 100000000000 }}",
      "{{ [1] * 100000000000 }}",
      "{{ range(1000000000) | list }}",
      "{{ " + repeat("(", 100000) + "1" + repeat(")", 100000) + " }}",
      "{{ 1" + repeat(" + 1", 60000) + " }}",
      repeat("{% if 1 %}", 20000) + repeat("{% endif %}", 10000),
      std::string(1 << 20, 'a'),
      "{% include '/etc/passwd' %}",
      "\xff",
  };
  for (const std::string& chat_template : hostile) {
    const auto text = render(chat_template);
    ASSERT_FALSE(text) << chat_template.substr(0, 100);
    EXPECT_THAT(text.error().message(), ::testing::StartsWith("chat template: "));
  }
}

// What a template says with raise_exception is the message, and its line is named.
TEST(Tokenizer, ATemplateMayRefuse) {
  const auto text = render("\n{{ raise_exception('no system turn') }}");
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().message(), "chat template: line 2: no system turn");
}

TEST(Tokenizer, NamedTemplates) {
  HfFiles files = files_with("");
  files.tokenizer_config = {{"chat_template",
                             {{{"name", 5}, {"template", "a"}},
                              {{"name", "tool_use"}, {"template", "b"}},
                              {{"name", "default"}, {"template", "c"}}}}};
  const auto tokenizer = Tokenizer::from_hf(files);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message();
  EXPECT_EQ(tokenizer->render_chat(Json::array(), false).value(), "c");
}

TEST(Tokenizer, HostileFilesAreErrors) {
  const std::string whole = files_with("").tokenizer_json;
  const std::string hostile[] = {
      "", "null", "{}", whole.substr(0, whole.size() / 2), repeat("[", 100000), "\xff" + whole};
  for (const std::string& json : hostile) {
    HfFiles files;
    files.tokenizer_json = json;
    const auto tokenizer = Tokenizer::from_hf(files);
    ASSERT_FALSE(tokenizer) << json.substr(0, 100);
    EXPECT_THAT(tokenizer.error().message(), ::testing::StartsWith("tokenizer.json"));
  }
}

}  // namespace
}  // namespace nibble
