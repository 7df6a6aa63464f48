#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "graph/runtime.h"

namespace nibble {
namespace {

const std::vector<float> kLogits = {1.0f, 3.0f, 2.0f, 3.0f, -1.0f};

std::map<std::uint32_t, int> counts(const SamplerOptions& options, int draws = 20000,
                                    const std::vector<float>& logits = kLogits) {
  Sampler sampler(options);
  std::map<std::uint32_t, int> seen;
  for (int i = 0; i < draws; ++i) ++seen[sampler.pick(logits)];
  return seen;
}

TEST(Sampler, GreedyTakesTheLowestOfTheBest) {
  EXPECT_EQ(Sampler({}).pick(kLogits), 1u);
  EXPECT_EQ(Sampler({.top_k = 2, .seed = 9}).pick(kLogits), 1u);
}

TEST(Sampler, PicksOnlyWhatAMaskAllows) {
  const std::vector<std::uint32_t> mask = {0b10101};
  EXPECT_EQ(Sampler({}).pick(kLogits, mask), 2u);
  Sampler sampler({.temperature = 5, .seed = 3});
  std::map<std::uint32_t, int> seen;
  for (int i = 0; i < 1000; ++i) ++seen[sampler.pick(kLogits, mask)];
  EXPECT_EQ(seen.size(), 3u);
  EXPECT_FALSE(seen.contains(1) || seen.contains(3));
  EXPECT_EQ(Sampler({.temperature = 1, .top_k = 1}).pick(kLogits, mask), 2u);
  EXPECT_EQ(Sampler({.bias = {{1, 100}}}).pick(kLogits, mask), 2u);
}

/// Frequencies of 20000 draws lie within 5 standard errors, sqrt(p (1 - p) / n) < 0.0036.
TEST(Sampler, TemperatureGivesTheSoftmax) {
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    double sum = 0;
    for (const float logit : kLogits) sum += std::exp(double(logit) / temperature);
    auto seen = counts({.temperature = temperature, .seed = 1});
    for (std::uint32_t i = 0; i < kLogits.size(); ++i)
      EXPECT_NEAR(seen[i] / 20000.0, std::exp(double(kLogits[i]) / temperature) / sum, 0.018);
  }
}

TEST(Sampler, FiltersKeepWhatTheySay) {
  const auto kept = [](const SamplerOptions& options) {
    std::vector<std::uint32_t> tokens;
    for (const auto& [token, n] : counts(options)) tokens.push_back(token);
    return tokens;
  };
  using List = std::vector<std::uint32_t>;
  EXPECT_EQ(kept({.temperature = 5}), (List{0, 1, 2, 3, 4}));
  EXPECT_EQ(kept({.temperature = 5, .top_k = 1}), (List{1}));  // the lower id of equals
  EXPECT_EQ(kept({.temperature = 5, .top_k = 3}), (List{1, 2, 3}));
  // Probabilities: 0.05, 0.39, 0.14, 0.39, 0.007.
  EXPECT_EQ(kept({.temperature = 5, .top_p = 0.3f}), (List{1}));
  EXPECT_EQ(kept({.temperature = 5, .top_p = 0.5f}), (List{1, 3}));
  EXPECT_EQ(kept({.temperature = 5, .top_p = 0.8f}), (List{1, 2, 3}));
  EXPECT_EQ(kept({.temperature = 5, .top_p = 0.0f}), (List{1}));
  EXPECT_EQ(kept({.temperature = 5, .min_p = 0.2f}), (List{1, 2, 3}));
  EXPECT_EQ(kept({.temperature = 5, .min_p = 9.0f}), (List{1, 3}));
  EXPECT_EQ(kept({.temperature = 5, .top_k = 4, .top_p = 0.99f, .min_p = 0.1f}),
            (List{0, 1, 2, 3}));
}

TEST(Sampler, PenaltyCountsEachRecentTokenOnce) {
  Sampler sampler({.repetition_penalty = 1.6f, .penalty_window = 2});
  EXPECT_EQ(sampler.pick(kLogits), 1u);
  EXPECT_EQ(sampler.pick(kLogits), 3u);
  EXPECT_EQ(sampler.pick(kLogits), 2u);  // 3 / 1.6 < 2
  EXPECT_EQ(sampler.pick(kLogits), 1u);  // forgotten
  Sampler twice({.repetition_penalty = 1.4f});
  twice.accept(1), twice.accept(1), twice.accept(3), twice.accept(1000);
  EXPECT_EQ(twice.pick(kLogits), 1u);  // 3 / 1.4 > 2, but 3 / 1.4^2 < 2
  Sampler negative({.repetition_penalty = 2.0f});
  negative.accept(0);
  EXPECT_EQ(negative.pick(std::vector{-1.0f, -1.5f}), 1u);  // -1 becomes -2
}

TEST(Sampler, SeedDecides) {
  const auto sequence = [](std::uint64_t seed) {
    Sampler sampler({.temperature = 3, .seed = seed});
    std::vector<std::uint32_t> out;
    for (int i = 0; i < 50; ++i) out.push_back(sampler.pick(kLogits));
    return out;
  };
  EXPECT_EQ(sequence(1), sequence(1));
  EXPECT_NE(sequence(1), sequence(2));
}

}  // namespace
}  // namespace nibble
