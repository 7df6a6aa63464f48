#include "text/gguf_vocab.h"

#include <gtest/gtest.h>

#include <cmath>

namespace nibble {
namespace {

/// A SentencePiece-like tokenizer.json: bytes, characters, and "hello" built up from them.
Json sentencepiece() {
  Json vocab = {{"<unk>", 0}, {"<s>", 1},   {"</s>", 2}, {"<0x0A>", 3}, {"he", 4}, {"ll", 5},
                {"hell", 6},  {"hello", 7}, {"h", 8},    {"e", 9},      {"l", 10}, {"o", 11}};
  const Json built = {
      {"added_tokens",
       {{{"id", 0}, {"content", "<unk>"}, {"special", true}},
        {{"id", 1}, {"content", "<s>"}, {"special", true}},
        {{"id", 2}, {"content", "</s>"}, {"special", true}}}},
      {"normalizer",
       {{"type", "Sequence"},
        {"normalizers",
         {{{"type", "Prepend"}, {"prepend", "\u2581"}},
          {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}}}}},
      {"pre_tokenizer", nullptr},
      {"model",
       {{"type", "BPE"},
        {"unk_token", "<unk>"},
        {"byte_fallback", true},
        {"vocab", vocab},
        {"merges", {"h e", "l l", "he ll", "hell o"}}}}};
  return *parse_json(built.dump());  // ids as a file has them: unsigned
}

TEST(GgufVocab, SentencePieceSurvivesTheRoundTrip) {
  Metadata metadata;
  const auto status = vocab_to_gguf(sentencepiece(), 14, metadata);
  ASSERT_TRUE(status) << status.error().message();
  EXPECT_EQ(*metadata.text("tokenizer.ggml.model"), "llama");
  const auto& types =
      std::get<std::vector<std::int32_t>>(*metadata.find("tokenizer.ggml.token_type"));
  EXPECT_EQ(types, (std::vector<std::int32_t>{2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 1, 1, 5, 5}));
  const auto& scores = std::get<std::vector<float>>(*metadata.find("tokenizer.ggml.scores"));
  EXPECT_GT(scores[4], scores[5]);  // merged earlier: preferred
  EXPECT_GT(scores[6], scores[7]);
  const auto back = vocab_from_gguf(metadata);
  ASSERT_TRUE(back) << back.error().message();
  const Json& merges = (*back)["model"]["merges"];
  EXPECT_EQ(merges[0], (Json{"h", "e"}));
  EXPECT_EQ(merges[1], (Json{"l", "l"}));
  EXPECT_EQ(merges[2], (Json{"he", "ll"}));
  EXPECT_EQ((*back)["model"]["vocab"], sentencepiece()["model"]["vocab"]);
}

TEST(GgufVocab, ATokenOutsideTheEmbeddingIsRefused) {
  Metadata metadata;
  const auto status = vocab_to_gguf(sentencepiece(), 11, metadata);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message().find("embedding has only 11 rows"), std::string::npos);
}

TEST(GgufVocab, HostileKeysAreErrors) {
  Metadata metadata;
  ASSERT_TRUE(vocab_to_gguf(sentencepiece(), 12, metadata));
  Metadata short_scores = metadata;
  short_scores.set("tokenizer.ggml.scores", std::vector<float>{1});
  EXPECT_FALSE(vocab_from_gguf(short_scores));
  Metadata twice = metadata;
  twice.set("tokenizer.ggml.tokens", std::vector<std::string>(12, "x"));
  EXPECT_FALSE(vocab_from_gguf(twice));
  Metadata typed = metadata;
  typed.set("tokenizer.ggml.tokens", std::string("x"));
  EXPECT_FALSE(vocab_from_gguf(typed));
  Metadata unordered = metadata;
  std::vector<float> scores(12, 0);
  scores[5] = std::nanf("");
  unordered.set("tokenizer.ggml.scores", scores);
  EXPECT_FALSE(vocab_from_gguf(unordered));
  Metadata endless = metadata;
  auto tokens = std::get<std::vector<std::string>>(*metadata.find("tokenizer.ggml.tokens"));
  tokens[5] = std::string(1 << 20, 'l');
  endless.set("tokenizer.ggml.tokens", tokens);
  EXPECT_FALSE(vocab_from_gguf(endless));
  Metadata other = metadata;
  other.set("tokenizer.ggml.model", std::string("t5"));
  EXPECT_FALSE(vocab_from_gguf(other));
}

}  // namespace
}  // namespace nibble
