// A JSON schema and, behind a zero byte, choices among the tokens that it allows.
#include "text/grammar.h"

#include "fuzz/text.h"
#include "text/tokenizer.h"

namespace {

/// Every character from "!" to "~" is a token, and 0 ends a text.
nibble::Result<nibble::GrammarCompiler> make_compiler() {
  nibble::Json vocab = {{"<s>", 0}};
  for (char c = '!'; c <= '~'; ++c) vocab[std::string(1, c)] = vocab.size();
  vocab["\u0120"] = vocab.size();  // a space, as byte-level tokenizers write it
  nibble::Json added = {{"id", 0}, {"content", "<s>"}, {"special", true}};
  for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"}) added[flag] = false;
  nibble::Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  bytes["trim_offsets"] = bytes["use_regex"] = true;
  nibble::HfFiles files;
  files.tokenizer_json =
      nibble::Json{
          {"version", "1.0"},
          {"added_tokens", {added}},
          {"pre_tokenizer", bytes},
          {"decoder", bytes},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nibble::Json::array()}}}}
          .dump();
  files.tokenizer_config = {{"eos_token", "<s>"}};
  NIBBLE_TRY(const auto tokenizer, nibble::Tokenizer::from_hf(files));
  return tokenizer.grammar_compiler(vocab.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto compiler = make_compiler();
  NIBBLE_CHECK(compiler);
  const auto [schema, choices] = nibble::parts<2>(data, size);
  auto matcher = compiler->json_schema(std::string(schema));
  if (!nibble::good(matcher)) return 0;
  for (const char choice : choices) {
    const auto allowed = matcher->allowed();
    if (!nibble::good(allowed)) return 0;
    std::vector<std::uint32_t> tokens;
    for (std::uint32_t t = 0; t < allowed->size() * 32; ++t)
      if ((*allowed)[t / 32] >> (t % 32) & 1) tokens.push_back(t);
    NIBBLE_CHECK(!tokens.empty());
    const std::uint32_t token = tokens[std::uint8_t(choice) % tokens.size()];
    if (token == 0) return 0;
    const auto complete = matcher->accept(token);
    if (!nibble::good(complete) || *complete) return 0;
  }
  return 0;
}
