// Guesses make an answer faster, never another one: not by a token, at no temperature.
#include "graph/speculate.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "graph/generate.h"
#include "support/temp_dir.h"
#include "support/tokenizers.h"

namespace nibble {
namespace {

using Tokens = std::vector<Token>;

constexpr int kVocab = 128;

Tokenizer tokenizer_of(int size) {
  HfFiles files;
  files.tokenizer_json = tokenizer_json(size).dump();
  auto tokenizer = Tokenizer::from_hf(files);
  EXPECT_TRUE(tokenizer) << tokenizer.error().message();
  return std::move(*tokenizer);
}

/// Knows the answer, and lies after the first `honest` tokens of each guess.
class Liar final : public Drafter {
 public:
  Liar(Tokens all, std::size_t honest) : all_(std::move(all)), honest_(honest) {}
  Result<Tokens> guess(std::span<const Token> tokens, std::size_t most) override {
    Tokens out;
    for (std::size_t i = tokens.size(); out.size() < most && i < all_.size(); ++i)
      out.push_back(out.size() < honest_ ? all_[i] : (all_[i] + 1) % kVocab);
    return out;
  }

 private:
  Tokens all_;
  std::size_t honest_;
};

struct Setting {
  std::uint32_t limit = 60, context = 256;
  float temperature = 0, repetition_penalty = 1;
};

class SpeculationOn : public testing::TestWithParam<const char*> {
 protected:
  SpeculationOn()
      : model_(*Model::open(std::string(NIBBLE_TEST_DATA) + "/golden/tiny/" + GetParam())) {
    for (std::uint32_t i = 0; i < 40; ++i) prompt_.push_back((i % 9) * 13 % kVocab);
  }

  std::unique_ptr<Runtime> load(const std::string& cache = "") const {
    return *Runtime::load(model_, {.threads = 1, .cache = cache});
  }

  /// The answer, and how many tokens the session holds after it.
  Generation answer(Runtime& runtime, const Setting& setting, Drafter* drafter,
                    std::uint32_t& held) const {
    Session session(runtime, setting.context);
    Sampler sampler({.temperature = setting.temperature,
                     .repetition_penalty = setting.repetition_penalty,
                     .seed = 7});
    const auto out = generate(session, tokenizer_, prompt_, sampler,
                              {.limit = setting.limit, .drafter = drafter});
    EXPECT_TRUE(out) << out.error().message();
    held = session.position();
    return *out;
  }

  void same_with(Runtime& runtime, const Setting& setting, Drafter& drafter,
                 const Generation& plain, std::uint32_t held) const {
    std::uint32_t found_held = 0;
    const Generation found = answer(runtime, setting, &drafter, found_held);
    EXPECT_EQ(found.tokens, plain.tokens);
    EXPECT_EQ(found.text, plain.text);
    EXPECT_EQ(found.reason, plain.reason);
    EXPECT_EQ(found_held, held);
    EXPECT_LE(found.right, found.guessed);
  }

  Model model_;
  Tokenizer tokenizer_ = tokenizer_of(kVocab);
  Tokens prompt_;
};

TEST_P(SpeculationOn, NoGuessChangesTheAnswer) {
  const Setting settings[] = {{},
                              {.limit = 1},
                              {.limit = 0},
                              {.limit = 100, .context = 64},
                              {.temperature = 1.0f},
                              {.temperature = 0.7f, .repetition_penalty = 1.3f}};
  for (const char* cache : {"", "q4_0"}) {
    const auto runtime = load(cache);
    ModelDrafter itself(load(cache), 256), shorter(load(cache), 50);
    LookupDrafter lookup;
    for (const Setting& setting : settings) {
      SCOPED_TRACE(testing::Message() << "cache " << cache << ", limit " << setting.limit
                                      << ", temperature " << setting.temperature);
      std::uint32_t held = 0;
      const Generation plain = answer(*runtime, setting, nullptr, held);
      Tokens all = prompt_;
      all.insert(all.end(), plain.tokens.begin(), plain.tokens.end());
      for (Drafter* drafter : std::initializer_list<Drafter*>{&lookup, &itself, &shorter})
        same_with(*runtime, setting, *drafter, plain, held);
      for (const std::size_t honest : {0u, 1u, 3u, 100u}) {
        Liar liar(all, honest);
        same_with(*runtime, setting, liar, plain, held);
      }
    }
  }
}

/// A model that guesses for itself is always right, and half a pass for each token is a lot saved.
TEST_P(SpeculationOn, RightGuessesSavePasses) {
  const auto runtime = load();
  ModelDrafter itself(load(), 256);
  std::uint32_t held = 0;
  const Generation found = answer(*runtime, {}, &itself, held);
  EXPECT_EQ(found.right, found.guessed);
  EXPECT_GT(found.guessed, found.tokens.size() / 2);
}

INSTANTIATE_TEST_SUITE_P(Tiny, SpeculationOn, testing::Values("llama3", "mistral", "gemma3"),
                         [](const auto& param) { return std::string(param.param); });

TEST(Lookup, ContinuesTheLongestAndLastOccurrence) {
  LookupDrafter lookup;
  const auto guess = [&](const Tokens& tokens, std::size_t most) {
    return *lookup.guess(tokens, most);
  };
  EXPECT_EQ(guess({}, 4), Tokens());
  EXPECT_EQ(guess({1}, 4), Tokens());
  EXPECT_EQ(guess({1, 2, 3, 4}, 4), Tokens());
  EXPECT_EQ(guess({1, 2, 3, 9, 1, 2}, 2), (Tokens{3, 9}));
  EXPECT_EQ(guess({1, 2, 3, 9, 1, 2}, 6), (Tokens{3, 9, 1, 2, 3, 9}));  // and over again
  EXPECT_EQ(guess({1, 2, 3, 1, 2, 4, 1, 2}, 1), (Tokens{4}));           // the last
  EXPECT_EQ(guess({7, 1, 2, 3, 1, 2, 4, 7, 1, 2}, 1), (Tokens{3}));     // the longest
  EXPECT_EQ(guess({5, 5, 5}, 3), (Tokens{5, 5, 5}));                    // it may overlap
  EXPECT_EQ(guess({3, 1, 3}, 3), Tokens());                             // one token says little
}

TEST(DraftLength, FollowsHowGuessesWent) {
  DraftLength length;
  EXPECT_EQ(length.next(), 4u);
  length.observe(2, 2);  // fewer than were asked for
  EXPECT_EQ(length.next(), 4u);
  for (int i = 0; i < 5; ++i) length.observe(length.next(), length.next());
  EXPECT_EQ(length.next(), Drafter::kMost);
  length.observe(16, 3);
  EXPECT_EQ(length.next(), 16u);
  for (int i = 0; i < 8; ++i) length.observe(length.next(), 0);
  EXPECT_EQ(length.next(), 1u);
}

TEST(ModelDrafter, AnotherVocabularyIsRefused) {
  const TempDir dir;
  const std::string tiny = std::string(NIBBLE_TEST_DATA) + "/golden/tiny/llama3";
  for (const char* file : {"config.json", "model.safetensors"})
    std::filesystem::copy_file(tiny + "/" + file, dir / file);
  const auto load = [&](const Tokenizer& target) {
    return ModelDrafter::load(dir.path(), {.threads = 1}, 64, target, no_progress());
  };
  write_file(dir / "tokenizer.json", tokenizer_json(kVocab).dump());
  EXPECT_TRUE(load(tokenizer_of(kVocab)));
  const auto smaller = load(tokenizer_of(kVocab - 1));
  ASSERT_FALSE(smaller);
  EXPECT_NE(smaller.error().message().find("128 tokens"), std::string::npos);
  Json other = tokenizer_json(kVocab);
  other["model"]["vocab"].erase("t5");
  other["model"]["vocab"]["five"] = 5;
  write_file(dir / "tokenizer.json", other.dump());
  const auto renamed = load(tokenizer_of(kVocab));
  ASSERT_FALSE(renamed);
  EXPECT_NE(renamed.error().message().find("token 5 is 'five'"), std::string::npos)
      << renamed.error().message();
}

}  // namespace
}  // namespace nibble
