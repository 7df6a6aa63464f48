// A chat template, messages and variables, between zero bytes: rendering ends, within its limits.
#include "fuzz/text.h"

namespace {

constexpr const char* kTokenizer =
    R"({"version": "1.0", "added_tokens": [{"id": 0, "content": "<s>", "special": true, )"
    R"("single_word": false, "lstrip": false, "rstrip": false, "normalized": false}], )"
    R"("model": {"type": "WordLevel", "vocab": {"<s>": 0}, "unk_token": "<s>"}})";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [chat_template, messages, variables] = nibble::parts<3>(data, size);
  nibble::HfFiles files;
  files.tokenizer_json = kTokenizer;
  files.chat_template = chat_template;
  const auto tokenizer = nibble::Tokenizer::from_hf(files);
  const auto given = nibble::parse_json(messages), others = nibble::parse_json(variables);
  if (!tokenizer) return 0;
  (void)nibble::good(tokenizer->render_chat(
      given ? *given : nibble::Json::array({{{"role", "user"}, {"content", "hi"}}}), true,
      others ? *others : nibble::Json()));
  return 0;
}
