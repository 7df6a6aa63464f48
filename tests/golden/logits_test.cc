// Tiny checkpoints of every architecture against the logits of Transformers (made by
// make_logits.py), and the ways in which the same logits must come out.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>

#include "graph/runtime.h"
#include "support/memory_source.h"
#include "support/temp_dir.h"

namespace nibble {
namespace {

constexpr const char* kModels[] = {"llama3",  "llama_bias", "llama_linear", "llama_yarn",
                                   "mistral", "qwen2",      "qwen3",        "gemma3"};

/// Largest difference of a logit, relative to the largest logit, that rounding explains.
///
/// Both sides compute in float32, u = 2^-24. A sum of K = 64 products, rounded in any order, errs
/// by about sqrt(K) u of its terms' size: 8 u. From the embedding to a logit lead 2 blocks of 7
/// dependent steps (norm, q/k, scores and softmax, mix, output, gate/up, down) and the head: 15
/// independent errors, sqrt(15) * 8 u = 31 u. Norms and softmax do not enlarge relative errors
/// much. Two sides: 44 u; times 6, so that the largest of 5120 logits stays below: 264 u = 1.6e-5.
constexpr double kBound = 264 * 0x1p-24;

std::string folder(const std::string& name) {
  return std::string(NIBBLE_TEST_DATA) + "/golden/tiny/" + name;
}

std::vector<std::uint32_t> tokens_for(const Model& model) {
  std::vector<std::uint32_t> tokens;
  for (std::uint32_t t = 0; t < 40; ++t)
    tokens.push_back((7 * t * t + 3 * t + 1) % model.config().vocab);
  return tokens;
}

Model open(const std::string& name) {
  auto model = Model::open(folder(name));
  EXPECT_TRUE(model) << model.error().message();
  return std::move(*model);
}

/// Logits of all tokens, given in portions of `portion`.
std::vector<float> logits_of(const Model& model, std::size_t portion = 40, int threads = 1,
                             Precision precision = Precision::exact) {
  const auto runtime = Runtime::load(model, {.threads = threads, .precision = precision});
  if (!runtime) {
    ADD_FAILURE() << runtime.error().message();
    return {};
  }
  Session session(**runtime, 40);
  const auto tokens = tokens_for(model);
  std::vector<float> out;
  for (std::size_t t = 0; t < tokens.size(); t += portion) {
    const auto part = std::span(tokens).subspan(t, std::min(portion, tokens.size() - t));
    const auto logits = session.forward(part, Session::Logits::all);
    EXPECT_TRUE(logits) << logits.error().message();
    out.insert(out.end(), logits->begin(), logits->end());
  }
  return out;
}

double difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0, worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::fabs(double(b[i])));
    worst = std::max(worst, std::fabs(double(a[i]) - b[i]));
  }
  return worst / largest;
}

class Golden : public testing::TestWithParam<const char*> {};

TEST_P(Golden, LogitsAreThoseOfTransformers) {
  const Model model = open(GetParam());
  const std::string raw = read_file(folder(GetParam()) + "/logits.bin");
  std::vector<float> expected(raw.size() / sizeof(float));
  std::memcpy(expected.data(), raw.data(), raw.size());
  ASSERT_EQ(expected.size(), 40u * model.config().vocab);
  const auto logits = logits_of(model);
  ASSERT_EQ(logits.size(), expected.size());
  const double found = difference(logits, expected);
  RecordProperty("difference", std::to_string(found));
  std::printf("%s: largest relative difference %.2e, bound %.2e\n", GetParam(), found, kBound);
  EXPECT_LT(found, kBound);
}

TEST_P(Golden, PortionsChangeRoundingOnly) {
  const Model model = open(GetParam());
  const auto whole = logits_of(model);
  for (const std::size_t portion : {1u, 7u, 16u, 33u})
    EXPECT_LT(difference(logits_of(model, portion), whole), kBound) << portion;
}

TEST_P(Golden, ThreadsChangeNothing) {
  const Model model = open(GetParam());
  for (const Precision precision : {Precision::exact, Precision::fast}) {
    const auto one = logits_of(model, 40, 1, precision);
    for (const int threads : {2, 3, 5}) {
      EXPECT_EQ(logits_of(model, 40, threads, precision), one);
      EXPECT_EQ(logits_of(model, 1, threads, precision), logits_of(model, 1, 1, precision));
    }
  }
}

/// The same values through GGUF's names, order and keys.
TEST_P(Golden, GgufGivesTheSameLogits) {
  const Model model = open(GetParam());
  const auto gguf = Model::from(as_gguf(model));
  ASSERT_TRUE(gguf) << gguf.error().message();
  EXPECT_EQ(logits_of(*gguf), logits_of(model));
}

/// fp16 keys and values: each number errs by at most 2^-12 of itself. A score of |s| <= 16 (the
/// weights are drawn so) errs by 16 * 2^-12 * sqrt(2) at most, which changes probabilities by the
/// factor e^0.0055; values by 2^-12. Through two blocks and cancellation: below 2 * 2 * 0.6%.
TEST_P(Golden, FastPrecisionIsClose) {
  const Model model = open(GetParam());
  const double found =
      difference(logits_of(model, 40, 1, Precision::fast), logits_of(model, 40, 1));
  EXPECT_LT(found, 0.024);
  EXPECT_GT(found, 0);  // or the fast path was not taken
}

/// Moving a scale along a fold leaves the logits alone.
TEST_P(Golden, FoldsKeepTheFunction) {
  const Model model = open(GetParam());
  const auto before = logits_of(model);
  for (const Fold& fold : model.graph().folds) {
    auto source = as_gguf(model);
    const auto scale = [&](const std::string& name, bool columns, bool divide) {
      const auto index = source->find(name);
      if (!index) return;  // no bias
      const std::uint64_t width = source->infos[*index].columns();
      const bool vector = source->infos[*index].shape.size() == 1;
      for (std::uint64_t i = 0; i < source->infos[*index].elements(); ++i) {
        const std::uint64_t channel = columns || vector ? i % width : i / width;
        const float factor = channel % 3 == 0 ? 4.0f : channel % 3 == 1 ? 0.5f : 1.0f;  // exact
        float value;
        std::byte* at = source->bytes[*index].data() + i * sizeof(float);
        std::memcpy(&value, at, sizeof(float));
        value = divide ? value / factor : value * factor;
        std::memcpy(at, &value, sizeof(float));
      }
    };
    scale(fold.from, false, false);
    if (fold.from.find("norm") == std::string::npos)
      scale(fold.from.substr(0, fold.from.rfind('.')) + ".bias", false, false);
    for (const std::string& to : fold.to) scale(to, true, true);
    const auto folded = Model::from(std::move(source));
    ASSERT_TRUE(folded) << folded.error().message();
    // Factors are powers of two, so even the roundings are the same.
    EXPECT_EQ(logits_of(*folded), before) << fold.from;
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, Golden, testing::ValuesIn(kModels),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace nibble
