#include "plan/budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace nibble {
namespace {

const Format* kFormat = find_format("q4_0");

Candidates matrix(std::vector<std::pair<std::uint64_t, double>> choices) {
  Candidates out{.name = "m", .choices = {}};
  for (const auto& [bytes, loss] : choices) out.choices.push_back({kFormat, bytes, loss});
  return out;
}

/// The least loss of all assignments within `bytes`; infinite if there is none.
double brute_force(const std::vector<Candidates>& matrices, std::uint64_t bytes,
                   std::size_t from = 0) {
  if (from == matrices.size()) return 0;
  double best = INFINITY;
  for (const Choice& choice : matrices[from].choices)
    if (choice.bytes <= bytes)
      best = std::min(best, choice.loss + brute_force(matrices, bytes - choice.bytes, from + 1));
  return best;
}

std::vector<Candidates> random_matrices(std::mt19937& random, std::size_t count) {
  std::vector<Candidates> out;
  for (std::size_t m = 0; m < count; ++m) {
    std::vector<std::pair<std::uint64_t, double>> choices;
    const double scale = std::exp(double(random() % 400) / 100);
    for (int c = 0; c < 5; ++c) {
      const std::uint64_t bytes = 100 + random() % 300;
      choices.emplace_back(
          bytes, scale * std::exp(-double(bytes) / 60) * (1 + double(random() % 100) / 200));
    }
    out.push_back(matrix(choices));
  }
  return out;
}

TEST(Frontier, NearTheBestOfAll) {
  std::mt19937 random(5);
  for (int round = 0; round < 20; ++round) {
    const auto matrices = random_matrices(random, 6);
    const Frontier frontier(matrices);
    const std::uint64_t low = frontier.points().front().bytes;
    const std::uint64_t high = frontier.points().back().bytes;
    for (std::uint64_t bytes = low; bytes <= high; bytes += 1 + (high - low) / 8) {
      const auto found = frontier.within(bytes);
      ASSERT_TRUE(found) << found.error().message();
      EXPECT_LE(found->bytes, bytes);
      // A point of the hull loses no more than any other assignment of its size; between two
      // points the greedy choice cannot lose more than the smaller of them.
      const auto above = std::find_if(frontier.points().begin(), frontier.points().end(),
                                      [&](const auto& p) { return p.bytes > bytes; });
      const double bound = (above - 1)->loss;
      EXPECT_LE(found->loss, bound * (1 + 1e-12));
      EXPECT_GE(found->loss, brute_force(matrices, bytes) * (1 - 1e-12));
    }
  }
}

TEST(Frontier, PointsAreTheBestOfTheirSize) {
  std::mt19937 random(6);
  for (int round = 0; round < 20; ++round) {
    const auto matrices = random_matrices(random, 5);
    const Frontier frontier(matrices);
    for (const Frontier::Point& point : frontier.points())
      EXPECT_NEAR(point.loss, brute_force(matrices, point.bytes), 1e-9 * point.loss);
  }
}

TEST(Frontier, FewestBytesForALoss) {
  const Frontier frontier({matrix({{10, 8}, {20, 2}, {40, 1}}), matrix({{10, 4}, {30, 0.5}})});
  EXPECT_EQ(frontier.losing(12)->bytes, 20u);
  EXPECT_EQ(frontier.losing(6)->bytes, 30u);
  EXPECT_EQ(frontier.losing(5.9)->bytes, 50u);
  EXPECT_EQ(frontier.losing(1.5)->bytes, 70u);
  const auto none = frontier.losing(1);
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message(), ::testing::HasSubstr("1.5"));
}

TEST(Frontier, TooSmallSaysHowLarge) {
  const Frontier frontier({matrix({{10, 8}, {20, 2}}), matrix({{15, 4}})});
  const auto none = frontier.within(24);
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message(), ::testing::HasSubstr("25 bytes"));
  EXPECT_EQ(frontier.within(25)->bytes, 25u);
}

TEST(Frontier, RestIsUsed) {
  // The steepest step does not fit; a lesser one of another matrix does.
  const Frontier frontier({matrix({{10, 100}, {100, 1}}), matrix({{10, 3}, {20, 2}})});
  const auto found = frontier.within(45);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->bytes, 30u);
  EXPECT_EQ(found->loss, 102);
}

}  // namespace
}  // namespace nibble
