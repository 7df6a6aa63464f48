#include "plan/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan/recipe.h"

namespace nibble {
namespace {

using testing::HasSubstr;

TensorInfo matrix(std::string name, std::uint64_t rows, std::uint64_t columns) {
  return {std::move(name), {rows, columns}, find_format("bf16"), rows * columns * 2};
}

PlanInput small_model() {
  PlanInput input{.arch = "llama", .layers = 8, .heads = 8, .kv_heads = 2, .tensors = {}};
  input.tensors.push_back(matrix("token_embd.weight", 100, 512));
  input.tensors.push_back({"output_norm.weight", {512}, find_format("bf16"), 1024});
  for (int i = 0; i < 8; ++i) {
    const std::string block = "blk." + std::to_string(i) + ".";
    input.tensors.push_back(matrix(block + "attn_q.weight", 512, 512));
    input.tensors.push_back(matrix(block + "attn_v.weight", 128, 512));
    input.tensors.push_back(matrix(block + "ffn_down.weight", 512, 800));
  }
  return input;
}

Plan plan_of(const char* target, std::vector<const char*> overrides = {}, bool importance = false) {
  std::vector<Override> parsed;
  for (const char* text : overrides) parsed.push_back(*parse_override(text));
  auto plan = make_plan(small_model(), *parse_target(target), parsed, importance);
  EXPECT_TRUE(plan) << plan.error().message();
  return *plan;
}

const PlannedTensor& tensor(const Plan& plan, std::string_view name) {
  for (const PlannedTensor& each : plan.tensors)
    if (each.tensor.name == name) return each;
  throw std::runtime_error("no such tensor");
}

std::string format_of(const Plan& plan, std::string_view name) {
  return std::string(tensor(plan, name).tensor.format->id());
}

std::string error_of(const Result<Plan>& plan) { return plan ? "" : plan.error().message(); }

TEST(Plan, LevelIsAMixture) {
  const Plan plan = plan_of("Q4_K_M");
  EXPECT_EQ(plan.file_type, 15u);
  EXPECT_EQ(format_of(plan, "token_embd.weight"), "q6_k");  // tied: it is the head
  EXPECT_EQ(format_of(plan, "output_norm.weight"), "f32");
  EXPECT_EQ(format_of(plan, "blk.0.attn_v.weight"), "q6_k");
  EXPECT_EQ(format_of(plan, "blk.1.attn_v.weight"), "q4_k");
  EXPECT_EQ(format_of(plan, "blk.3.attn_q.weight"), "q4_k");
}

TEST(Plan, NarrowRowsFallBackAndSayWhy) {
  const Plan plan = plan_of("Q4_K_M");
  const PlannedTensor& down = tensor(plan, "blk.1.ffn_down.weight");
  EXPECT_EQ(down.wanted->id(), "q4_k");
  EXPECT_EQ(down.tensor.format->id(), "q5_0");
  EXPECT_THAT(down.reason, HasSubstr("800"));
  EXPECT_EQ(format_of(plan_of("Q2_K"), "blk.1.ffn_down.weight"), "iq4_nl");
  EXPECT_EQ(fitting_format(*find_format("q4_0"), 40, false).id(), "f16");
}

TEST(Plan, BytesAndBits) {
  const Plan plan = plan_of("q8_0");
  std::uint64_t weights = 100 * 512 + 512 + 8 * (512 * 512 + 128 * 512 + 512 * 800);
  EXPECT_EQ(plan.weights, weights);
  EXPECT_EQ(plan.tensor_bytes, (weights - 512) / 32 * 34 + 512 * 4);
  EXPECT_DOUBLE_EQ(plan.bits_per_weight(), 8.0 * double(plan.tensor_bytes) / double(weights));
}

TEST(Plan, LevelOrFormat) {
  EXPECT_EQ(parse_target("q4_k_m")->level, find_level("Q4_K_M"));
  EXPECT_EQ(parse_target("Q4_K")->level, find_level("Q4_K_M"));
  EXPECT_EQ(parse_target("Q4_0")->level, find_level("Q4_0"));
  EXPECT_EQ(parse_target("q4_0")->format, find_format("q4_0"));
  EXPECT_EQ(parse_target("f16")->level, find_level("F16"));
  EXPECT_TRUE(parse_target("keep")->keep());
  EXPECT_THAT(parse_target("Q9").error().message(), HasSubstr("Q4_K_M"));
}

TEST(Plan, PureFormatAndKeep) {
  const Plan pure = plan_of("q4_k");
  EXPECT_EQ(format_of(pure, "token_embd.weight"), "q4_k");
  EXPECT_EQ(pure.file_type, 14u);
  const Plan keep = plan_of("keep");
  EXPECT_EQ(format_of(keep, "blk.0.attn_q.weight"), "bf16");
  EXPECT_EQ(format_of(keep, "output_norm.weight"), "f32");
  EXPECT_EQ(keep.file_type, 32u);
}

TEST(Plan, ImportanceChangesSomeLevels) {
  EXPECT_EQ(format_of(plan_of("IQ4_NL"), "blk.0.ffn_down.weight"), "q5_1");  // q5_k does not fit
  EXPECT_EQ(format_of(plan_of("IQ4_NL", {}, true), "blk.0.ffn_down.weight"), "iq4_nl");
  EXPECT_EQ(format_of(plan_of("Q4_0", {}, true), "blk.0.ffn_down.weight"), "q4_1");
}

TEST(Plan, OverridesFirstMatchWins) {
  const Plan plan = plan_of("Q4_K_M", {"blk\\.3\\.attn_q=q8_0", "attn_q=q5_k"});
  EXPECT_EQ(format_of(plan, "blk.3.attn_q.weight"), "q8_0");
  EXPECT_EQ(format_of(plan, "blk.2.attn_q.weight"), "q5_k");
  EXPECT_THAT(tensor(plan, "blk.2.attn_q.weight").reason, HasSubstr("attn_q=q5_k"));
}

TEST(Plan, OverridesThatCannotWork) {
  const auto make = [](const char* text) {
    const Override override = *parse_override(text);
    return make_plan(small_model(), *parse_target("Q4_0"), std::span(&override, 1), false);
  };
  EXPECT_THAT(error_of(make("nothing=q4_0")), HasSubstr("nothing=q4_0"));
  EXPECT_THAT(error_of(make("norm=q4_0")), HasSubstr("no matrix"));
  EXPECT_THAT(error_of(make("ffn_down=q4_k")), HasSubstr("800"));
  EXPECT_THAT(parse_override("a=q99").error().message(), HasSubstr("q99"));
  EXPECT_THAT(parse_override("q4_0").error().message(), HasSubstr("REGEX=FORMAT"));
  EXPECT_THAT(parse_override("(=q4_0").error().message(), HasSubstr("')' expected"));
}

TEST(Plan, SmallTensorsStayAsTheyAre) {
  EXPECT_FALSE(is_quantizable("blk.0.ffn_gate_inp.weight", 2));
  EXPECT_FALSE(is_quantizable("blk.0.attn_q.bias", 1));
  EXPECT_FALSE(is_quantizable("blk.0.attn_q_norm.weight", 2));
  EXPECT_TRUE(is_quantizable("blk.0.ffn_down_exps.weight", 3));
  EXPECT_TRUE(is_quantizable("blk.0.time_mix_value.weight", 2));
}

TEST(Recipe, Parts) {
  const auto recipe = parse_recipe("awq+gptq:q4_k");
  ASSERT_TRUE(recipe);
  EXPECT_EQ(recipe->transforms, std::vector<std::string>{"awq"});
  EXPECT_EQ(recipe->rounding, "gptq");
  EXPECT_EQ(recipe->target, "q4_k");
  EXPECT_EQ(to_string(*recipe), "awq+gptq:q4_k");
  EXPECT_EQ(parse_recipe("importance")->rounding, "importance");
  for (const char* bad : {"", ":", "a:", "+a", "a+", "a++b"})
    EXPECT_FALSE(parse_recipe(bad)) << bad;
}

}  // namespace
}  // namespace nibble
