// What every transform owes, on tiny checkpoints of every architecture: the network computes what
// it did, and rounding to few bits still works on what it became.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "quantize/rewrite.h"
#include "support/tokens.h"

namespace nibble {
namespace {

constexpr const char* kModels[] = {"llama3",  "llama_bias", "llama_linear", "llama_yarn",
                                   "mistral", "qwen2",      "qwen3",        "gemma3"};

std::string folder(const std::string& name) {
  return std::string(NIBBLE_TEST_DATA) + "/golden/tiny/" + name;
}

RewriteOptions options_for(const Model& model, const std::string& name) {
  RewriteOptions options{.source = folder(name),
                         .folder = "",
                         .threads = 1,
                         .formats = {},
                         .rounder = find_rounder("importance")};
  for (const TensorInfo& tensor : model.tensors())
    if (tensor.shape.size() == 2 && tensor.columns() % 32 == 0)
      options.formats[tensor.name] = find_format("q4_0");
  return options;
}

std::vector<float> logits_of(const Model& model, const std::vector<Token>& window) {
  auto runtime = Runtime::load(model, {.threads = 1, .precision = Precision::exact});
  EXPECT_TRUE(runtime) << runtime.error().message();
  Session session(**runtime, std::uint32_t(window.size()));
  const auto logits = session.forward(window, Session::Logits::all);
  EXPECT_TRUE(logits) << logits.error().message();
  return {logits->begin(), logits->end()};
}

/// Has no turn of its residual stream.
bool refused(const Transform& transform, const std::string& model) {
  return transform.turns() == Channels::residual && model == "gemma3";
}

class TransformContract : public testing::TestWithParam<std::tuple<const Transform*, const char*>> {
};

TEST_P(TransformContract, TheFunctionStays) {
  const auto [transform, name] = GetParam();
  Model model = *Model::open(folder(name));
  const Corpus corpus = some_tokens(model);
  const std::vector<float> before = logits_of(model, corpus.windows[0]);
  const Status ready = untie(model, {transform});
  ASSERT_EQ(ready.has_value(), !refused(*transform, name));
  if (!ready) {
    EXPECT_THAT(ready.error().message(), testing::HasSubstr("gemma3"));
    return;
  }
  const auto done = rewrite(model, {transform}, corpus, options_for(model, name), no_progress());
  ASSERT_TRUE(done) << done.error().message();
  const std::vector<float> after = logits_of(model, corpus.windows[0]);
  float largest = 0;
  for (const float x : before) largest = std::max(largest, std::abs(x));
  // As in logits_test: 264 units of float32 explain the largest difference between two orders of
  // the same sums; rewritten weights are rounded once more, and so are the norms before them.
  for (std::size_t i = 0; i < before.size(); ++i)
    ASSERT_NEAR(before[i], after[i], 3 * 264 * 0x1p-24f * largest) << i;
}

TEST_P(TransformContract, TheSameForAnyThreads) {
  const auto [transform, name] = GetParam();
  std::vector<std::vector<float>> weights;
  for (const int threads : {1, 3}) {
    Model model = *Model::open(folder(name));
    RewriteOptions options = options_for(model, name);
    options.threads = threads;
    if (!untie(model, {transform})) GTEST_SKIP();
    const auto done = rewrite(model, {transform}, some_tokens(model), options, no_progress());
    ASSERT_TRUE(done) << done.error().message();
    auto& all = weights.emplace_back();
    for (std::size_t i = 0; i < model.tensors().size(); ++i) {
      std::vector<float> rows(model.tensors()[i].elements());
      model.load_rows(i, 0, model.tensors()[i].rows(), rows.data());
      all.insert(all.end(), rows.begin(), rows.end());
    }
  }
  EXPECT_EQ(weights[0], weights[1]);
}

INSTANTIATE_TEST_SUITE_P(All, TransformContract,
                         testing::Combine(testing::ValuesIn(transform_registry().begin(),
                                                            transform_registry().end()),
                                          testing::ValuesIn(kModels)),
                         [](const auto& param) {
                           return std::string(std::get<0>(param.param)->id()) + "_" +
                                  std::get<1>(param.param);
                         });

/// Scales that are gone once float32 has divided by them.
class Broken final : public Transform {
  std::string_view id() const override { return "broken"; }
  Result<std::vector<float>> scales(const FoldTask& task, ThreadPool&) const override {
    return std::vector<float>(std::size_t(task.moment->columns), 1e-42f);
  }
};

TEST(Rewrite, ACheckThatFails) {
  const Broken broken;
  Model model = *Model::open(folder("llama3"));
  const auto done =
      rewrite(model, {&broken}, some_tokens(model), options_for(model, "llama3"), no_progress());
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message(), testing::HasSubstr("llama3"));
}

TEST(Rewrite, AwqEnlargesColumnsThatReadMuch) {
  Model model = *Model::open(folder("qwen2"));
  ASSERT_TRUE(rewrite(model, {find_transform("awq")}, some_tokens(model),
                      options_for(model, "qwen2"), no_progress()));
  int changed = 0;
  for (std::size_t i = 0; i < model.tensors().size(); ++i) changed += !model.keeps_values(i);
  EXPECT_GT(changed, 0);
}

TEST(Transforms, RotationsAreOrthogonalAndMixEveryChannelWithEveryOther) {
  for (const std::uint32_t width : {1u, 2u, 9u, 64u, 96u, 128u, 576u}) {
    std::vector<float> rows(width * width);  // row v becomes the v-th column of the matrix
    for (std::uint32_t k = 0; k < width; ++k) rows[k * width + k] = 1;
    Rotation(width).turn(rows.data(), 1, width, width);
    const double most = std::sqrt(2.0 / width);
    for (std::uint32_t a = 0; a < width; ++a) {
      for (std::uint32_t k = 0; k < width; ++k) {
        EXPECT_NE(rows[a * width + k], 0) << width << ": " << a << ", " << k;
        EXPECT_LE(std::abs(rows[a * width + k]), most * (1 + 0x1p-23));
      }
      for (std::uint32_t b = 0; b < width; ++b) {
        double product = 0;
        for (std::uint32_t k = 0; k < width; ++k)
          product += double(rows[a * width + k]) * double(rows[b * width + k]);
        // Entries are off by 2^-24 of themselves, so each of the terms by twice that, and the terms
        // add up to 1 at most (Cauchy-Schwarz).
        EXPECT_NEAR(product, a == b, 0x1p-22) << width << ": " << a << ", " << b;
      }
    }
  }
}

TEST(Transforms, RotationsTurnRowsAsTheyTurnColumns) {
  const std::uint32_t width = 12;
  std::vector<float> columns(width * 11), rows(width * 11);  // more than is turned at a time
  for (std::uint32_t v = 0; v < 11; ++v)
    for (std::uint32_t k = 0; k < width; ++k)
      columns[v * width + k] = rows[k * 11 + v] = float(int(k * k + 7 * v) % 19 - 9);
  Rotation(width).turn(columns.data(), 1, 11, width);
  Rotation(width).turn(rows.data(), 11, 11, 1);
  for (std::uint32_t v = 0; v < 11; ++v)
    for (std::uint32_t k = 0; k < width; ++k) EXPECT_EQ(columns[v * width + k], rows[k * 11 + v]);
}

/// A weight that is turned once more than the rest, and what the check says of it.
std::string said_of_fault(const std::string& weight, bool rows) {
  Model model = *Model::open(folder("qwen2"));
  const std::vector<const Transform*> rotate = {find_transform("rotate")};
  EXPECT_TRUE(untie(model, rotate));
  const Rotation rotation(model.config().hidden);
  rows ? model.turn_rows(weight, rotation) : model.turn_columns(weight, rotation);
  const auto done =
      rewrite(model, rotate, some_tokens(model), options_for(model, "qwen2"), no_progress());
  return done ? "" : done.error().message();
}

TEST(Rewrite, TheCheckSeesEveryPlaceThatIsTurnedWrongly) {
  EXPECT_THAT(said_of_fault("token_embd.weight", false), testing::HasSubstr("the embedding"));
  EXPECT_THAT(said_of_fault("output.weight", false), testing::HasSubstr("the head"));
  EXPECT_THAT(said_of_fault("blk.0.attn_q.weight", false), testing::HasSubstr("block 0"));
  EXPECT_THAT(said_of_fault("blk.1.attn_output.weight", true), testing::HasSubstr("block 1"));
  EXPECT_THAT(said_of_fault("blk.1.ffn_down.weight", true), testing::HasSubstr("block 1"));
}

TEST(Rewrite, RotatedNormsAreOneAndDeadChannelsStayDead) {
  Model model = *Model::open(folder("llama3"));
  const std::vector<const Transform*> rotate = {find_transform("rotate")};
  ASSERT_TRUE(untie(model, rotate));
  EXPECT_FALSE(model.config().tied);
  std::vector<float> dead(model.config().hidden, 1);
  dead[3] = 0;
  model.rescale("blk.0.attn_norm.weight", dead, {});
  const std::vector<float> before = logits_of(model, some_tokens(model).windows[0]);
  (void)rewrite(model, rotate, some_tokens(model), options_for(model, "llama3"), no_progress());
  for (std::size_t i = 0; i < model.tensors().size(); ++i) {
    if (model.graph().weights[i].role != Weight::Role::norm) continue;
    std::vector<float> values(model.tensors()[i].elements());
    model.load_rows(i, 0, 1, values.data());
    EXPECT_THAT(values, testing::Each(1.0f)) << model.tensors()[i].name;
  }
  const std::vector<float> after = logits_of(model, some_tokens(model).windows[0]);
  float largest = 0;
  for (const float x : before) largest = std::max(largest, std::abs(x));
  for (std::size_t i = 0; i < before.size(); ++i)  // as in TheFunctionStays
    ASSERT_NEAR(before[i], after[i], 3 * 264 * 0x1p-24f * largest) << i;
}

TEST(Rewrite, HadamardTurnsValuesAndWhatReadsThem) {
  Model model = *Model::open(folder("qwen2"));
  ASSERT_TRUE(rewrite(model, {find_transform("hadamard")}, some_tokens(model),
                      options_for(model, "qwen2"), no_progress()));
  for (const char* name : {"blk.0.attn_v.weight", "blk.0.attn_v.bias", "blk.1.attn_output.weight"})
    EXPECT_FALSE(model.keeps_values(*model.find(name))) << name;
  EXPECT_TRUE(model.keeps_values(*model.find("blk.0.attn_q.weight")));
  // Rows one by one are those of the whole.
  const std::size_t v = *model.find("blk.0.attn_v.weight");
  const TensorInfo& info = model.tensors()[v];
  std::vector<float> whole(info.elements()), row(info.columns());
  model.load_rows(v, 0, info.rows(), whole.data());
  for (std::uint64_t r = 0; r < info.rows(); ++r) {
    model.load_rows(v, r, r + 1, row.data());
    EXPECT_TRUE(
        std::equal(row.begin(), row.end(), whole.begin() + std::ptrdiff_t(r * info.columns())));
  }
}

TEST(Transforms, SmoothQuantMakesInputsAndWeightsEquallyLarge) {
  constexpr std::size_t kColumns = 4;
  const std::vector<float> weights = {0.5f, -2, 0, 0.25f, -0.125f, 1, 0, 4};  // two rows
  SecondMoment moment{kColumns, 1, std::vector<float>(kColumns * kColumns), {8, 0.5f, 1, 0}};
  FoldTask task{.from = {}, .to = {}, .moment = &moment, .held_out = &moment};
  RoundTask& reader = task.to.emplace_back();
  reader.rows = 2, reader.columns = kColumns;
  reader.load = [&](std::int64_t begin, std::int64_t end, float* out) {
    std::copy(weights.begin() + begin * 4, weights.begin() + end * 4, out);
  };
  ThreadPool pool(1);
  const auto scales = find_transform("smoothquant")->scales(task, pool);
  ASSERT_TRUE(scales) << scales.error().message();
  ASSERT_EQ(scales->size(), kColumns);
  EXPECT_FLOAT_EQ(8 / (*scales)[0], 0.5f * (*scales)[0]);
  EXPECT_FLOAT_EQ(0.5f / (*scales)[1], 2 * (*scales)[1]);
  for (const float scale : *scales) EXPECT_TRUE(std::isfinite(scale) && scale > 0) << scale;
  moment.largest.clear();
  EXPECT_TRUE(find_transform("smoothquant")->scales(task, pool)->empty());
}

}  // namespace
}  // namespace nibble
