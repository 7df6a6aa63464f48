// Inputs that drift away from those of the full-precision model: what is measured of them, and what
// correcting for them gains.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "quantize/feedback.h"
#include "support/tokens.h"

namespace nibble {
namespace {

constexpr std::int64_t kColumns = 64, kTokens = 400, kRows = 70;

/// Inputs x, and d = a x.
struct Inputs {
  Inputs() : x(kTokens * kColumns), d(kTokens * kColumns), a(kColumns * kColumns) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    for (float& value : x) value = normal(random);
    for (float& value : a) value = 0.02f * normal(random);
    for (std::int64_t t = 0; t < kTokens; ++t)
      for (std::int64_t i = 0; i < kColumns; ++i)
        for (std::int64_t j = 0; j < kColumns; ++j)
          d[std::size_t(t * kColumns + i)] +=
              a[std::size_t(i * kColumns + j)] * x[std::size_t(t * kColumns + j)];
  }

  static SecondMoment mean(const std::vector<float>& a, const std::vector<float>& b) {
    SecondMoment out{kColumns, kTokens, std::vector<float>(kColumns * kColumns)};
    for (std::int64_t i = 0; i < kColumns; ++i)
      for (std::int64_t j = 0; j < kColumns; ++j) {
        double sum = 0;
        for (std::int64_t t = 0; t < kTokens; ++t)
          sum +=
              double(a[std::size_t(t * kColumns + i)]) * double(b[std::size_t(t * kColumns + j)]);
        out.values[std::size_t(i * kColumns + j)] = float(sum / kTokens);
      }
    return out;
  }

  std::vector<float> x, d, a;
};

const Inputs& inputs() {
  static const Inputs all;
  return all;
}

std::vector<float> some_weights() {
  std::mt19937 random(8);
  std::normal_distribution<float> normal;
  std::vector<float> out(kRows * kColumns);
  for (float& value : out) value = normal(random);
  return out;
}

/// A drift that is linear in the inputs is found, whatever order the factor's blocks are in.
TEST(Drift, TheCorrectionIsTheLinearPart) {
  const Inputs& in = inputs();
  const SecondMoment moment = Inputs::mean(in.x, in.x), cross = Inputs::mean(in.d, in.x);
  std::vector<std::vector<float>> found;
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    const auto factor = factorize(moment, 8, {.shrinkage = 0, .damping = 1e-6}, pool);
    ASSERT_TRUE(factor);
    EXPECT_FALSE(std::is_sorted(factor->order.begin(), factor->order.end()));
    found.push_back(drift_correction(moment, cross, *factor, pool));
  }
  EXPECT_EQ(found[0], found[1]);
  // Eigenvalues of the moment lie within (1 +- sqrt(64 / 400))^2, so its condition is below 6, and
  // what float32 does to a solution of 64 unknowns below 6 * 64 * 2^-24 of the largest row, whose
  // norm is 0.02 * 8; the damping moves it by 1e-6 / 0.36.
  for (std::size_t i = 0; i < in.a.size(); ++i)
    ASSERT_NEAR(found[0][i], in.a[i], 0.02 * 8 * (6 * 64 * 0x1p-24 + 1e-6 / 0.36)) << i;
}

TEST(Drift, TheErrorIsThatOfTheOutputs) {
  const Inputs& in = inputs();
  const Drift drift{{}, Inputs::mean(in.d, in.x), Inputs::mean(in.d, in.d)};
  const std::vector<float> weights = some_weights();
  std::vector<float> errors(weights.size());
  for (std::size_t i = 0; i < errors.size(); ++i) errors[i] = 0.1f * weights[i * 7 % errors.size()];
  double sum = 0;
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t t = 0; t < kTokens; ++t) {
      double apart = 0;
      for (std::int64_t j = 0; j < kColumns; ++j)
        apart += double(errors[std::size_t(r * kColumns + j)]) *
                     double(in.x[std::size_t(t * kColumns + j)]) -
                 double(weights[std::size_t(r * kColumns + j)]) *
                     double(in.d[std::size_t(t * kColumns + j)]);
      sum += apart * apart / kTokens;
    }
  const SecondMoment moment = Inputs::mean(in.x, in.x);
  // Moments are rounded once, and products are summed over 64 columns twice: 2^-24 each of the sum
  // of the absolute values of all terms.
  const auto sizes = [](SecondMoment m, std::vector<float> of) {
    for (auto* values : {&m.values, &of})
      for (float& value : *values) value = std::abs(value);
    return output_error(m, of.data(), kRows);
  };
  const double own = sizes(moment, errors), drifted = sizes(drift.square, weights);
  const double bound = own + drifted + 2 * std::sqrt(own * drifted);
  EXPECT_NEAR(output_error(moment, drift, weights.data(), errors.data(), kRows), sum,
              130 * 0x1p-24 * bound);
}

Model open_model() { return *Model::open(std::string(NIBBLE_TEST_DATA) + "/golden/tiny/llama3"); }

constexpr char kFirst[] = "blk.0.ffn_down.weight", kSecond[] = "blk.1.ffn_gate.weight";

struct Rounded {
  std::vector<std::byte> bytes;
  FeedbackChoice choice;
};

Rounded round(const Model& model, FeedbackSource& source, const char* weight,
              std::string_view format, std::string_view rounder, ThreadPool& pool) {
  const std::size_t index = *model.find(weight);
  const TensorInfo& tensor = model.tensors()[index];
  Rounded out;
  RoundTask task;
  task.rows = std::int64_t(tensor.rows()), task.columns = std::int64_t(tensor.columns());
  task.format = find_format(format);
  task.load = [&](std::int64_t begin, std::int64_t end, float* to) {
    model.load_rows(index, std::uint64_t(begin), std::uint64_t(end), to);
  };
  out.bytes.resize(tensor.rows() * task.format->row_bytes(tensor.columns()));
  task.out = out.bytes;
  const auto report = source.round(weight, task, *find_rounder(rounder), out.choice, pool);
  EXPECT_TRUE(report) << report.error().message();
  double squared = 0;
  std::vector<float> w(tensor.elements()), q(w.size());
  task.load(0, task.rows, w.data());
  task.format->decode(out.bytes.data(), q.size() / std::size_t(task.format->block()), q.data());
  for (std::size_t i = 0; i < w.size(); ++i)
    squared += (double(q[i]) - double(w[i])) * (double(q[i]) - double(w[i]));
  EXPECT_NEAR(report->squared_error, squared, 1e-6 * squared);  // of the weights, not of a target
  return out;
}

/// The first block's last matrix is rounded to few bits, then one of the second block.
Rounded second_block(std::string_view rounder, bool reference, int threads) {
  const Model model = open_model();
  ThreadPool pool(threads);
  auto source = *FeedbackSource::open(model, some_tokens(model), threads, "", false, reference);
  const auto never = [](int) { return false; };
  EXPECT_TRUE(source->enter(0, never, no_progress()));
  const Rounded first = round(model, *source, kFirst, "iq4_nl", rounder, pool);
  EXPECT_EQ(first.choice.correction, 0);  // nothing before it is quantized
  EXPECT_TRUE(source->put(kFirst, *find_format("iq4_nl"), first.bytes));
  EXPECT_TRUE(source->enter(1, never, no_progress()));
  return round(model, *source, kSecond, "q4_0", rounder, pool);
}

TEST(Drift, CorrectingForItGivesOutputsNearerToTheFullPrecisionModels) {
  const Rounded corrected = second_block("gptaq", true, 1);
  const Rounded plain = second_block("gptq", true, 1);  // judged by the same outputs
  EXPECT_GT(corrected.choice.correction, 0);
  EXPECT_LT(corrected.choice.error, plain.choice.error);
  EXPECT_EQ(plain.choice.error_alone, corrected.choice.error_alone);
}

TEST(Drift, TheSameForAnyThreads) {
  const Rounded one = second_block("gptaq", true, 1), three = second_block("gptaq", true, 3);
  EXPECT_EQ(one.bytes, three.bytes);
  EXPECT_EQ(one.choice.error, three.choice.error);
}

TEST(Drift, WithoutAReferenceItIsErrorFeedback) {
  EXPECT_EQ(second_block("gptaq", false, 1).bytes, second_block("gptq", false, 1).bytes);
}

TEST(Drift, NoneWhereNothingIsQuantized) {
  const Model model = open_model();
  auto stream = *BlockStream::open(model, some_tokens(model), 1, "", true);
  for (const int block : {0, 1}) {
    ASSERT_TRUE(stream.enter(block, true, no_progress()));
    const TapMoments* moments = stream.moments(fmt::format("blk.{}.ffn_in", block));
    ASSERT_TRUE(moments && moments->drift);
    for (const SecondMoment* each :
         {&moments->drift->train, &moments->drift->held_out, &moments->drift->square})
      EXPECT_THAT(each->values, testing::Each(0.0f));
    ASSERT_TRUE(stream.leave(no_progress()));
  }
}

TEST(Drift, NeedsMemoryForASecondStream) {
  const Model model = open_model();
  const Corpus corpus = some_tokens(model);
  EXPECT_EQ(FeedbackSource::activation_bytes(model, corpus, true),
            2 * FeedbackSource::activation_bytes(model, corpus, false));
  EXPECT_GT(FeedbackSource::memory_needed(model, true),
            FeedbackSource::memory_needed(model, false));
}

}  // namespace
}  // namespace nibble
