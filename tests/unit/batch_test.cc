// Several sequences that advance together, and the memory that they share.
#include <gtest/gtest.h>

#include "graph/runtime.h"
#include "support/memory_source.h"

namespace nibble {
namespace {

using Tokens = std::vector<std::uint32_t>;

constexpr const char* kModels[] = {"llama3", "mistral", "qwen3", "gemma3"};

Model open(const std::string& name) {
  auto model = Model::open(std::string(NIBBLE_TEST_DATA) + "/golden/tiny/" + name);
  EXPECT_TRUE(model) << model.error().message();
  return std::move(*model);
}

Tokens some_text(std::uint32_t seed, std::size_t count, std::uint32_t vocab) {
  Tokens out;
  for (std::uint32_t i = 0; i < count; ++i) out.push_back((i * i * 7 + i * seed + seed) % vocab);
  return out;
}

std::vector<float> copied(const Result<std::span<const float>>& logits) {
  EXPECT_TRUE(logits) << logits.error().message();
  return logits ? std::vector<float>(logits->begin(), logits->end()) : std::vector<float>();
}

std::vector<float> alone(Runtime& runtime, const Tokens& tokens) {
  Session session(runtime, 256);
  return copied(session.forward(tokens, Logits::all));
}

class BatchOf : public testing::TestWithParam<const char*> {};

/// Sequences that join at different steps with portions of different sizes.
TEST_P(BatchOf, EachGetsWhatItWouldGetAlone) {
  const Model model = open(GetParam());
  const std::uint32_t vocab = model.config().vocab;
  for (const Precision precision : {Precision::exact, Precision::fast})
    for (const int threads : {1, 3}) {
      const auto runtime = *Runtime::load(model, {.threads = threads, .precision = precision});
      std::vector<Tokens> texts;
      std::vector<Session> sessions;
      for (std::uint32_t i = 0; i < 7; ++i) {
        texts.push_back(some_text(i, 20 + 9 * i, vocab));
        sessions.emplace_back(*runtime, 256);
      }
      std::vector<std::vector<float>> found(texts.size());
      Batch batch(*runtime);
      for (std::size_t step = 0; step < 100; ++step) {
        std::vector<Batch::Part> parts;
        std::vector<std::size_t> owner;
        for (std::size_t i = 0; i < texts.size(); ++i) {
          const std::size_t at = sessions[i].position(), left = texts[i].size() - at;
          if (step < 2 * i || left == 0) continue;
          const std::size_t count = std::min(left, 1 + (step * 5 + i * 3) % 6);
          parts.push_back({&sessions[i], std::span(texts[i]).subspan(at, count), Logits::all});
          owner.push_back(i);
        }
        ASSERT_TRUE(batch.forward(parts));
        for (std::size_t p = 0; p < parts.size(); ++p) {
          const auto logits = copied(batch.logits(p));
          found[owner[p]].insert(found[owner[p]].end(), logits.begin(), logits.end());
        }
      }
      for (std::size_t i = 0; i < texts.size(); ++i)
        EXPECT_EQ(found[i], alone(*runtime, texts[i])) << "sequence " << i;
    }
}

TEST_P(BatchOf, LastAndNoLogits) {
  const Model model = open(GetParam());
  const std::uint32_t vocab = model.config().vocab;
  const auto runtime = *Runtime::load(model, {.threads = 1});
  std::vector<Session> sessions;
  for (int i = 0; i < 3; ++i) sessions.emplace_back(*runtime, 64);
  const Tokens a = some_text(1, 9, vocab), b = some_text(2, 5, vocab), c = some_text(3, 7, vocab);
  Batch batch(*runtime);
  ASSERT_TRUE(batch.forward(std::vector<Batch::Part>{{&sessions[0], a, Logits::last},
                                                     {&sessions[1], b, Logits::none},
                                                     {&sessions[2], c, Logits::last}}));
  const auto last = [&](const Tokens& tokens) {
    const auto all = alone(*runtime, tokens);
    return std::vector<float>(all.end() - vocab, all.end());
  };
  EXPECT_EQ(copied(batch.logits(0)), last(a));
  EXPECT_TRUE(batch.logits(1)->empty());
  EXPECT_EQ(copied(batch.logits(2)), last(c));
}

/// A second sequence takes the whole pages that the first has computed, and computes the rest.
TEST_P(BatchOf, PrefixesAreReused) {
  const Model model = open(GetParam());
  const std::uint32_t vocab = model.config().vocab;
  const auto runtime = *Runtime::load(model, {.threads = 1});
  const auto pages = std::make_shared<KvPagePool>(runtime->graph().config, runtime->cache(), 8);
  const Tokens text = some_text(5, 2 * kPagePositions + 9, vocab);
  {
    Session first(*runtime, 256, pages);
    EXPECT_EQ(first.reuse(text), 0u);
    ASSERT_TRUE(first.forward(text));
    EXPECT_EQ(pages->used(), 3u);
  }
  EXPECT_EQ(pages->used(), 0u);
  Tokens other = text;
  other.back() = (other.back() + 1) % vocab;
  Session second(*runtime, 256, pages);
  ASSERT_EQ(second.reuse(other), 2 * kPagePositions);
  const auto rest =
      copied(second.forward(std::span(other).subspan(2 * kPagePositions), Logits::all));
  const auto all = alone(*runtime, other);
  EXPECT_EQ(rest, std::vector<float>(all.begin() + 2 * kPagePositions * vocab, all.end()));
  // What differs within the first page is not found.
  Session third(*runtime, 256, pages);
  other[3] = (other[3] + 1) % vocab;
  EXPECT_EQ(third.reuse(other), 0u);
}

TEST_P(BatchOf, SharedPagesAreCopiedBeforeTheyAreWritten) {
  const Model model = open(GetParam());
  const std::uint32_t vocab = model.config().vocab;
  const auto runtime = *Runtime::load(model, {.threads = 1});
  const auto pages = std::make_shared<KvPagePool>(runtime->graph().config, runtime->cache(), 8);
  const Tokens text = some_text(6, 2 * kPagePositions, vocab);
  Session one(*runtime, 256, pages), two(*runtime, 256, pages);
  ASSERT_TRUE(one.forward(text));
  ASSERT_EQ(two.reuse(text), 2 * kPagePositions);
  two.truncate(kPagePositions + 5);
  const Tokens other = some_text(9, 20, vocab);
  Tokens joined(text.begin(), text.begin() + kPagePositions + 5);
  joined.insert(joined.end(), other.begin(), other.end());
  const auto all = alone(*runtime, joined);
  EXPECT_EQ(copied(two.forward(other, Logits::all)),
            std::vector<float>(all.end() - std::ptrdiff_t(other.size() * vocab), all.end()));
  Tokens longer = text;
  longer.push_back(4);
  const auto whole = alone(*runtime, longer);
  EXPECT_EQ(copied(one.forward(std::span(longer).last(1))),
            std::vector<float>(whole.end() - vocab, whole.end()));
}

INSTANTIATE_TEST_SUITE_P(Tiny, BatchOf, testing::ValuesIn(kModels),
                         [](const auto& param) { return std::string(param.param); });

TEST(KvPages, FullMemoryIsAnErrorAndTheOldestAreGivenUp) {
  const Model model = open("llama3");
  const std::uint32_t vocab = model.config().vocab;
  const auto runtime = *Runtime::load(model, {.threads = 1});
  const auto pages = std::make_shared<KvPagePool>(runtime->graph().config, runtime->cache(), 3);
  const Tokens a = some_text(1, kPagePositions, vocab), b = some_text(2, kPagePositions, vocab);
  Tokens more = some_text(3, 2 * kPagePositions, vocab);
  for (const Tokens* text : {&a, &b}) {
    Session session(*runtime, 256, pages);
    ASSERT_TRUE(session.forward(*text));
  }
  {
    Session session(*runtime, 256, pages);
    ASSERT_TRUE(session.forward(more));  // takes the page of a
    Session fourth(*runtime, 256, pages);
    EXPECT_EQ(fourth.reuse(a), 0u);
    EXPECT_EQ(fourth.reuse(b), kPagePositions);
    const auto full = fourth.forward(std::span(a).first(1));
    ASSERT_FALSE(full);
    EXPECT_NE(full.error().message().find("memory for keys and values"), std::string::npos);
    EXPECT_EQ(fourth.position(), kPagePositions);
  }
  EXPECT_EQ(pages->used(), 0u);
  EXPECT_EQ(pages->pages(), 3u);
}

TEST(BatchLimits, BadPartsAdvanceNobody) {
  const Model model = open("llama3");
  const auto runtime = *Runtime::load(model, {.threads = 1});
  Session good(*runtime, 64), bad(*runtime, 4);
  Batch batch(*runtime);
  const Tokens text = some_text(1, 5, model.config().vocab);
  EXPECT_FALSE(batch.forward(std::vector<Batch::Part>{{&good, text}, {&bad, text}}));
  EXPECT_EQ(good.position(), 0u);
  EXPECT_EQ(bad.position(), 0u);
}

}  // namespace
}  // namespace nibble
