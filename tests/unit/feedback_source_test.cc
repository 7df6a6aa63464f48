// Error feedback on a tiny checkpoint: what is chosen, and what happens where nothing can be
// learnt.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "quantize/feedback.h"
#include "support/tokens.h"

namespace nibble {
namespace {

using ::testing::HasSubstr;

constexpr char kWeight[] = "blk.0.ffn_gate.weight";

Model open_model() { return *Model::open(std::string(NIBBLE_TEST_DATA) + "/golden/tiny/llama3"); }

struct Outcome {
  FeedbackChoice choice;
  std::vector<float> decoded;
};

/// Rounds kWeight of a model to q4_0.
Outcome round(const Model& model) {
  ThreadPool pool(1);
  auto source = FeedbackSource::open(model, some_tokens(model), 1, "");
  EXPECT_TRUE(source) << source.error().message();
  EXPECT_TRUE((*source)->enter(
      0, [](int) { return false; }, no_progress()));
  const std::size_t index = *model.find(kWeight);
  const TensorInfo& tensor = model.tensors()[index];
  RoundTask task;
  task.rows = std::int64_t(tensor.rows()), task.columns = std::int64_t(tensor.columns());
  task.format = find_format("q4_0");
  task.load = [&](std::int64_t begin, std::int64_t end, float* out) {
    model.load_rows(index, std::uint64_t(begin), std::uint64_t(end), out);
  };
  std::vector<std::byte> bytes(tensor.rows() * task.format->row_bytes(tensor.columns()));
  task.out = bytes;
  Outcome out;
  const auto report = (*source)->round(kWeight, task, *find_rounder("gptq"), out.choice, pool);
  EXPECT_TRUE(report) << report.error().message();
  out.decoded.resize(tensor.elements());
  task.format->decode(bytes.data(), tensor.elements() / 32, out.decoded.data());
  return out;
}

TEST(FeedbackSource, BetterThanAloneOnWindowsHeldOut) {
  const Outcome outcome = round(open_model());
  EXPECT_EQ(outcome.choice.fallback, "");
  EXPECT_LT(outcome.choice.error, outcome.choice.error_alone);
  EXPECT_LT(outcome.choice.shrinkage, 1);
}

TEST(FeedbackSource, DeadInputsFallBackAndAreNamed) {
  Model model = open_model();
  model.rescale("blk.0.ffn_norm.weight", std::vector<float>(model.config().hidden, 0.0f), {});
  const Outcome outcome = round(model);
  EXPECT_THAT(outcome.choice.fallback, HasSubstr("zero"));
  for (const float value : outcome.decoded) ASSERT_TRUE(std::isfinite(value));
}

TEST(FeedbackSource, InputsTooLargeToSquareFallBackAndAreNamed) {
  Model model = open_model();
  model.rescale("blk.0.ffn_norm.weight", std::vector<float>(model.config().hidden, 1e25f), {});
  const Outcome outcome = round(model);
  EXPECT_THAT(outcome.choice.fallback, HasSubstr("not finite"));
  for (const float value : outcome.decoded) ASSERT_TRUE(std::isfinite(value));
}

TEST(FeedbackSource, OneColumnAliveIsEnough) {
  Model model = open_model();
  std::vector<float> scales(model.config().hidden, 0.0f);
  scales[5] = 1;
  model.rescale("blk.0.ffn_norm.weight", scales, {});
  const Outcome outcome = round(model);
  for (const float value : outcome.decoded) ASSERT_TRUE(std::isfinite(value));
}

TEST(FeedbackSource, TooFewWindows) {
  const Model model = open_model();
  Corpus corpus = some_tokens(model);
  corpus.windows.resize(3);
  const auto source = FeedbackSource::open(model, corpus, 1, "");
  ASSERT_FALSE(source);
  EXPECT_THAT(source.error().message(), HasSubstr("longer text"));
}

}  // namespace
}  // namespace nibble
