// Details of models and sessions that the contract and golden tests do not fix.
#include <gmock/gmock.h>

#include <cmath>

#include "graph/runtime.h"
#include "support/memory_source.h"

namespace nibble {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Model llama() {
  for (const Arch* arch : arch_registry())
    if (arch->id() == "llama")
      return std::move(*Model::from(small_checkpoint(*arch, small_config("LlamaForCausalLM"))));
  std::abort();
}

std::vector<float> rows_of(const Model& model, const std::string& name, std::uint64_t begin,
                           std::uint64_t end) {
  const auto index = model.find(name);
  std::vector<float> out((end - begin) * model.tensors()[*index].columns());
  model.load_rows(*index, begin, end, out.data());
  return out;
}

/// Row 2i of a head of 8 is the checkpoint's row i, row 2i + 1 its row i + 4.
TEST(Model, QueriesAndKeysAreInterleaved) {
  auto source = std::make_unique<MemorySource>();
  const Model model = llama();
  std::vector<float> numbers(32 * 32);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = float(i / 32);  // its row
  source->set_config(small_config("LlamaForCausalLM"));
  for (const TensorRule& rule : model.arch().tensor_rules(model.config()))
    source->add(rule.hf_name, model.tensors()[*model.find(rule.name)].shape, numbers);
  const auto numbered = Model::from(std::move(source));
  ASSERT_TRUE(numbered) << numbered.error().message();
  for (const char* name : {"blk.1.attn_q.weight", "blk.1.attn_k.weight"}) {
    std::vector<float> first;
    for (std::uint64_t r = 0; r < 16; ++r)
      first.push_back(rows_of(*numbered, name, r, r + 1).front());
    EXPECT_THAT(first, ElementsAre(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15));
    EXPECT_EQ(rows_of(*numbered, name, 3, 9).at(2 * 32), first[5]);
    EXPECT_TRUE(numbered->stored(*numbered->find(name)).empty());
    EXPECT_TRUE(numbered->keeps_values(*numbered->find(name)));
    std::vector<float> bytes(32);
    numbered->load_bytes(*numbered->find(name), 9, 10, reinterpret_cast<std::byte*>(bytes.data()));
    EXPECT_EQ(bytes.front(), 12);
  }
  EXPECT_EQ(rows_of(*numbered, "blk.1.attn_v.weight", 1, 2).front(), 1);
  EXPECT_FALSE(numbered->stored(*numbered->find("blk.1.attn_v.weight")).empty());
}

/// The text part of a Gemma 3 with vision has other prefixes, and its configuration is nested.
TEST(Model, Gemma3WithVisionIsReadAsText) {
  Json text = small_config("Gemma3ForCausalLM");
  const Arch* gemma = nullptr;
  for (const Arch* arch : arch_registry())
    if (arch->id() == "gemma3") gemma = arch;
  ASSERT_NE(gemma, nullptr);
  const auto plain = Model::from(small_checkpoint(*gemma, text));
  ASSERT_TRUE(plain) << plain.error().message();
  text.erase("architectures");
  const Json config = {{"architectures", {"Gemma3ForConditionalGeneration"}},
                       {"text_config", text}};
  for (const char* style : {"language_model.model.", "model.language_model."}) {
    auto source = small_checkpoint(*gemma, small_config("Gemma3ForCausalLM"));
    source->set_config(config);
    for (TensorInfo& info : source->infos) info.name = style + info.name.substr(6);
    source->add("vision_tower.vision_model.encoder.x", {2}, {1});
    source->add("model.vision_tower.vision_model.encoder.y", {2}, {1});
    source->add("model.multi_modal_projector.z", {2}, {1});
    const auto model = Model::from(std::move(source));
    ASSERT_TRUE(model) << model.error().message();
    EXPECT_TRUE(model->config() == plain->config());
    EXPECT_EQ(rows_of(*model, "blk.0.attn_norm.weight", 0, 1),
              rows_of(*plain, "blk.0.attn_norm.weight", 0, 1));
  }
}

TEST(Model, UnknownArchitecturesAreNamed) {
  auto source = std::make_unique<MemorySource>();
  source->set_config(Json::parse(R"({"architectures": ["MambaForCausalLM"]})"));
  EXPECT_THAT(Model::from(std::move(source)).error().message(), HasSubstr("MambaForCausalLM"));
  source = std::make_unique<MemorySource>();
  source->set_config(Json::parse("{}"));
  EXPECT_THAT(Model::from(std::move(source)).error().message(), HasSubstr("architectures"));
  source = std::make_unique<MemorySource>();
  source->set_config(nullptr);
  EXPECT_THAT(Model::from(std::move(source)).error().message(), HasSubstr("config.json"));
  source = std::make_unique<MemorySource>();
  EXPECT_THAT(Model::from(std::move(source)).error().message(), HasSubstr("general.architecture"));
  source = std::make_unique<MemorySource>();
  source->keys.set("general.architecture", std::string("mamba"));
  EXPECT_THAT(Model::from(std::move(source)).error().message(), HasSubstr("'mamba'"));
}

TEST(Model, Llama31ScalingBecomesATensor) {
  Json config = small_config("LlamaForCausalLM");
  config["rope_scaling"] = Json::parse(
      R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32})");
  const Model plain = llama();
  auto source = small_checkpoint(plain.arch(), config);
  const auto model = Model::from(std::move(source));
  ASSERT_TRUE(model) << model.error().message();
  // theta 1000, 4 pairs: wavelengths 6.28, 35.3, 199, 1117 against 32/4 and 32/1.
  EXPECT_THAT(rows_of(*model, "rope_freqs.weight", 0, 1), ElementsAre(1, 8, 8, 8));
  EXPECT_FALSE(plain.find("rope_freqs.weight"));
}

TEST(Session, RefusesWhatItCannotRun) {
  const Model model = llama();
  const auto runtime = Runtime::load(model, {.threads = 1});
  ASSERT_TRUE(runtime) << runtime.error().message();
  Session session(**runtime, 4);
  const std::vector<std::uint32_t> good = {1, 2, 3}, bad = {1, 50}, none;
  EXPECT_THAT(session.forward(bad).error().message(), HasSubstr("token 50"));
  EXPECT_THAT(session.forward(none).error().message(), HasSubstr("no tokens"));
  ASSERT_TRUE(session.forward(good));
  EXPECT_EQ(session.position(), 3u);
  EXPECT_THAT(session.forward(good).error().message(), HasSubstr("context of 4"));
  session.truncate(1);
  EXPECT_EQ(session.position(), 1u);
  EXPECT_TRUE(session.forward(good));
  session.truncate(9);
  EXPECT_EQ(session.position(), 4u);
}

/// What truncate() forgot has no influence; more tokens than one portion of the executor fit.
TEST(Session, ForgetsAndContinues) {
  const Model model = llama();
  const auto runtime = Runtime::load(model, {.threads = 1, .precision = Precision::exact});
  ASSERT_TRUE(runtime);
  std::vector<std::uint32_t> tokens;
  for (std::uint32_t t = 0; t < 1100; ++t) tokens.push_back(t * t % 50);
  Session a(**runtime, 2000), b(**runtime, 2000);
  ASSERT_TRUE(a.forward(tokens));
  a.truncate(600);
  const auto rest = std::span(tokens).subspan(600);
  const auto again = a.forward(rest);
  ASSERT_TRUE(again);
  const std::vector<float> kept(again->begin(), again->end());
  const auto whole = b.forward(tokens, Session::Logits::all);
  ASSERT_TRUE(whole);
  ASSERT_EQ(whole->size(), 1100u * 50);
  for (std::size_t i = 0; i < 50; ++i) EXPECT_NEAR(kept[i], (*whole)[1099 * 50 + i], 1e-5);
  EXPECT_TRUE(b.forward(std::span(tokens).first(1), Session::Logits::none)->empty());
}

TEST(Session, TapsSeeEveryActivationOnce) {
  const Model model = llama();
  const auto runtime = Runtime::load(model, {.threads = 1});
  ASSERT_TRUE(runtime);
  Session session(**runtime, 8);
  std::vector<std::string> taps;
  session.set_tap(
      [&](const std::string& tap, const float* values, std::int64_t tokens, std::int64_t width) {
        EXPECT_TRUE(std::isfinite(values[tokens * width - 1]));
        if (tap.rfind("blk.1.", 0) == 0) taps.push_back(tap + " " + std::to_string(width));
      });
  ASSERT_TRUE(session.forward(std::vector<std::uint32_t>{1, 2, 3}));
  EXPECT_THAT(taps, ElementsAre("blk.1.attn_in 32", "blk.1.attn_out 32", "blk.1.ffn_in 32",
                                "blk.1.ffn_mid 48"));
}

TEST(Session, BrokenWeightsAreReported) {
  const Model good = llama();
  for (const char* name : {"blk.2.ffn_down.weight", "blk.0.attn_q.weight", "output.weight"}) {
    auto source = as_gguf(good);
    const float nan = NAN;
    std::memcpy(source->bytes[*source->find(name)].data(), &nan, sizeof(nan));
    const auto model = Model::from(std::move(source));
    ASSERT_TRUE(model);
    for (const Precision precision : {Precision::exact, Precision::fast}) {
      const auto runtime = Runtime::load(*model, {.threads = 1, .precision = precision});
      ASSERT_TRUE(runtime);
      Session session(**runtime, 8);
      const auto logits = session.forward(std::vector<std::uint32_t>{1, 2, 3});
      ASSERT_FALSE(logits) << name;
      EXPECT_THAT(logits.error().message(), HasSubstr("memory: the model's output is not finite"));
    }
  }
  auto source = as_gguf(good);
  const float infinite = INFINITY;
  std::memcpy(source->bytes[*source->find("output_norm.weight")].data(), &infinite, 4);
  const auto model = Model::from(std::move(source));
  ASSERT_TRUE(model);
  EXPECT_THAT(Runtime::load(*model).error().message(), HasSubstr("output_norm.weight"));
}

/// A llama whose keys are made of rounded inputs, and its logits after a few tokens.
struct Rounded {
  Model model = make();
  std::string weight = "blk.0.attn_k.weight";
  std::vector<float> tapped;  // what the layers of that name's tap read

  std::vector<float> logits(const RuntimeOptions& options, bool replaced = false) {
    const auto runtime = *Runtime::load(model, options);
    const TensorInfo& info = model.tensors()[*model.find(weight)];
    std::vector<std::byte> bytes(info.bytes);
    model.load_rows(*model.find(weight), 0, info.rows(), reinterpret_cast<float*>(bytes.data()));
    if (replaced) {
      EXPECT_TRUE(runtime->replace(weight, *info.format, bytes));
    }
    Session session(*runtime, 8);
    tapped.clear();
    session.set_tap(
        [&](const std::string&, const float* values, std::int64_t tokens, std::int64_t width) {
          if (tapped.empty()) tapped.assign(values, values + tokens * width);
        });
    const auto out = *session.forward(std::vector<std::uint32_t>{3, 14, 15, 9});
    return {out.begin(), out.end()};
  }

 private:
  static Model make() {
    const Model plain = llama();
    auto source = small_checkpoint(plain.arch(), small_config("LlamaForCausalLM"));
    for (TensorInfo& info : source->infos)
      if (info.name.ends_with("layers.0.self_attn.k_proj.weight"))
        info.inputs.kind = InputRounding::Kind::fp8;
    return std::move(*Model::from(std::move(source)));
  }
};

TEST(Runtime, RoundsInputsBehindTheTap) {
  Rounded rounded;
  const auto with = rounded.logits({.threads = 1, .precision = Precision::exact});
  const auto seen = rounded.tapped;
  EXPECT_EQ(with, rounded.logits({.threads = 3, .precision = Precision::exact}));
  const auto without =
      rounded.logits({.threads = 1, .precision = Precision::exact, .round_inputs = false});
  EXPECT_NE(with, without);
  EXPECT_EQ(seen, rounded.tapped);
}

TEST(Runtime, OtherWeightsDoNotHaveTheRounding) {
  Rounded rounded;
  const RuntimeOptions rounds{.threads = 1, .precision = Precision::exact},
      not_at_all{.threads = 1, .precision = Precision::exact, .round_inputs = false};
  EXPECT_EQ(rounded.logits(rounds, true), rounded.logits(not_at_all));
  rounded.model.rescale(rounded.weight, std::vector<float>(16, 0.5f), {});
  EXPECT_EQ(rounded.logits(rounds), rounded.logits(not_at_all));
}

}  // namespace
}  // namespace nibble
