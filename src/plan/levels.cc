#include "plan/levels.h"

#include <algorithm>
#include <array>

namespace nibble {
namespace {

bool always(const Site&) { return true; }
bool first_two(const Site& s) { return s.index < 2; }
bool first_four(const Site& s) { return s.index < 4; }
bool first_eighth(const Site& s) { return s.index < s.count / 8; }
bool first_sixteenth(const Site& s) { return s.index < s.count / 16; }
/// The first and last eighth and every third between: what the _M levels spend more bits on.
bool selected(const Site& s) {
  return first_eighth(s) || s.index >= 7 * s.count / 8 || (s.index - s.count / 8) % 3 == 2;
}
bool four_heads(const Site& s) { return s.heads_per_kv >= 4; }
bool eight_experts(const Site& s) { return s.experts == 8; }
bool early_with_importance(const Site& s) { return s.importance && first_eighth(s); }
bool early_without_importance(const Site& s) { return !s.importance && first_eighth(s); }
bool usual(const Site& s) { return s.experts != 8; }
bool four_heads_or_experts(const Site& s) { return s.heads_per_kv >= 4 || s.experts >= 4; }
bool has_experts(const Site& s) { return s.experts > 1; }
bool unknown_importance(const Site& s) { return !s.importance; }
bool middle(const Site& s) { return s.index >= s.count / 8 && s.index < 7 * s.count / 8; }
bool early_or_selected_experts(const Site& s) {
  return first_eighth(s) || (eight_experts(s) && selected(s));
}

using enum Role;

constexpr Rule kQ2K[] = {{attn_v, four_heads, "q4_k"},
                         {attn_v, always, "q3_k"},
                         {ffn_down, always, "q3_k"},
                         {attn_output, eight_experts, "q5_k"},
                         {attn_output, always, "q3_k"}};
constexpr Rule kQ2KS[] = {{attn_v, four_heads, "q4_k"}, {ffn_down, first_eighth, "q4_k"}};
constexpr Rule kQ3KS[] = {{attn_output, eight_experts, "q5_k"}};
constexpr Rule kQ3KM[] = {{attn_v, first_two, "q5_k"},          {attn_v, always, "q4_k"},
                          {ffn_down, first_sixteenth, "q5_k"},  {ffn_down, always, "q4_k"},
                          {attn_output, eight_experts, "q5_k"}, {attn_output, always, "q4_k"}};
constexpr Rule kQ3KL[] = {
    {attn_v, always, "q5_k"}, {ffn_down, always, "q5_k"}, {attn_output, usual, "q5_k"}};
constexpr Rule kQ40[] = {{ffn_down, early_with_importance, "q4_1"}};
constexpr Rule kQ50[] = {{ffn_down, early_with_importance, "q5_1"}};
constexpr Rule kQ4KS[] = {{attn_v, first_four, "q5_k"},
                          {ffn_down, first_eighth, "q5_k"},
                          {attn_output, eight_experts, "q5_k"}};
constexpr Rule kQ4KM[] = {
    {attn_v, selected, "q6_k"}, {ffn_down, selected, "q6_k"}, {attn_output, eight_experts, "q5_k"}};
constexpr Rule kQ5KM[] = {{attn_v, selected, "q6_k"}, {ffn_down, selected, "q6_k"}};
constexpr Rule kIQ4[] = {{attn_v, four_heads, "q5_k"},
                         {ffn_down, early_without_importance, "q5_k"},
                         {attn_output, eight_experts, "q5_k"}};

constexpr Rule kIQ1[] = {{embedding, always, "q2_k"},
                         {attn_v, four_heads_or_experts, "q4_k"},
                         {attn_v, always, "q2_k"},
                         {ffn_down, first_eighth, "q2_k"},
                         {attn_output, eight_experts, "q5_k"},
                         {attn_output, always, "iq2_xxs"}};
constexpr Rule kIQ2XS[] = {{embedding, always, "q2_k"},
                           {attn_v, four_heads_or_experts, "q4_k"},
                           {attn_v, always, "q2_k"},
                           {ffn_down, first_eighth, "q2_k"},
                           {attn_output, eight_experts, "q5_k"}};
constexpr Rule kIQ2S[] = {{embedding, always, "iq3_s"},
                          {attn_v, four_heads_or_experts, "q4_k"},
                          {attn_v, always, "iq3_s"},
                          {ffn_down, first_eighth, "iq3_s"},
                          {attn_output, eight_experts, "q5_k"},
                          {attn_output, always, "iq3_s"}};
constexpr Rule kIQ3XXS[] = {{embedding, always, "iq3_s"},
                            {attn_v, four_heads, "q4_k"},
                            {attn_v, unknown_importance, "iq3_s"},
                            {attn_k, always, "iq2_s"},
                            {attn_q, always, "iq2_s"},
                            {ffn_down, early_without_importance, "q4_k"},
                            {ffn_down, unknown_importance, "q3_k"},
                            {attn_output, eight_experts, "q5_k"},
                            {attn_output, always, "iq3_s"}};
constexpr Rule kIQ3XS[] = {{attn_v, four_heads, "q4_k"}, {attn_k, always, "iq3_xxs"},
                           {attn_q, always, "iq3_xxs"},  {ffn_gate, middle, "iq3_xxs"},
                           {ffn_up, middle, "iq3_xxs"},  {attn_output, eight_experts, "q5_k"}};
constexpr Rule kIQ3S[] = {{attn_v, four_heads, "q4_k"}, {attn_output, eight_experts, "q5_k"}};
constexpr Rule kIQ3M[] = {{attn_v, always, "q4_k"},
                          {ffn_down, early_or_selected_experts, "q4_k"},
                          {attn_output, eight_experts, "q5_k"},
                          {attn_output, always, "q4_k"}};
constexpr Rule kTQ[] = {{embedding, always, "q4_k"}};
constexpr Rule kMxfp4[] = {{ffn_up, has_experts, "mxfp4"},
                           {ffn_gate, has_experts, "mxfp4"},
                           {ffn_down, has_experts, "mxfp4"}};

constexpr Level kLevels[] = {
    {"IQ1_S", 24, "iq1_s", "q5_k", kIQ1, true},
    {"IQ1_M", 31, "iq1_m", "q5_k", kIQ1, true},
    {"TQ1_0", 36, "tq1_0", "q6_k", kTQ},
    {"IQ2_XXS", 19, "iq2_xxs", "q5_k", kIQ2XS, true},
    {"TQ2_0", 37, "tq2_0", "q6_k", kTQ},
    {"IQ2_XS", 20, "iq2_xs", "q5_k", kIQ2XS, true},
    {"IQ2_S", 28, "iq2_xs", "q5_k", kIQ2S, true},
    {"IQ2_M", 29, "iq2_s", "q5_k", kIQ2S, true},
    {"IQ3_XXS", 23, "iq3_xxs", "q5_k", kIQ3XXS},
    {"IQ3_XS", 22, "iq3_s", "q6_k", kIQ3XS},
    {"IQ3_S", 26, "iq3_s", "q6_k", kIQ3S},
    {"IQ3_M", 27, "iq3_s", "q6_k", kIQ3M},
    {"MXFP4_MOE", 38, "q8_0", "q8_0", kMxfp4},
    {"Q2_K", 10, "q2_k", "q6_k", kQ2K},
    {"Q2_K_S", 21, "q2_k", "q6_k", kQ2KS},
    {"Q3_K_S", 11, "q3_k", "q6_k", kQ3KS},
    {"Q3_K_M", 12, "q3_k", "q6_k", kQ3KM},
    {"Q3_K_L", 13, "q3_k", "q6_k", kQ3KL},
    {"IQ4_XS", 30, "iq4_xs", "q6_k", kIQ4},
    {"IQ4_NL", 25, "iq4_nl", "q6_k", kIQ4},
    {"Q4_0", 2, "q4_0", "q6_k", kQ40},
    {"Q4_1", 3, "q4_1", "q6_k", {}},
    {"Q4_K_S", 14, "q4_k", "q6_k", kQ4KS},
    {"Q4_K_M", 15, "q4_k", "q6_k", kQ4KM},
    {"Q5_0", 8, "q5_0", "q6_k", kQ50},
    {"Q5_1", 9, "q5_1", "q6_k", {}},
    {"Q5_K_S", 16, "q5_k", "q6_k", {}},
    {"Q5_K_M", 17, "q5_k", "q6_k", kQ5KM},
    {"Q6_K", 18, "q6_k", "q6_k", {}},
    {"Q8_0", 7, "q8_0", "q8_0", {}},
    {"BF16", 32, "bf16", "bf16", {}},
    {"F16", 1, "f16", "f16", {}},
    {"F32", 0, "f32", "f32", {}},
};

constexpr std::string_view kUsualLevels[] = {"Q8_0",   "Q6_K",  "Q5_K_M",  "Q4_K_M", "Q4_K_S",
                                             "IQ4_XS", "Q4_0",  "Q3_K_M",  "IQ3_M",  "IQ3_XXS",
                                             "Q2_K",   "IQ2_M", "IQ2_XXS", "IQ1_M"};

struct Pair {
  std::string_view from, to;
};
constexpr Pair kAliases[] = {{"Q3_K", "Q3_K_M"}, {"Q4_K", "Q4_K_M"}, {"Q5_K", "Q5_K_M"}};

/// Blocks of 256 that do not fit a row -> blocks of 32; others become iq4_nl. (llama.cpp takes q4_0
/// for q2_k, q3_k, tq1_0 and tq2_0; iq4_nl has as many bytes and less error.)
constexpr Pair kNarrow[] = {{"q4_k", "q5_0"}, {"q5_k", "q5_1"}, {"q6_k", "q8_0"}};

struct RoleName {
  std::string_view part;
  Role role;
};
constexpr RoleName kRoles[] = {
    {"attn_qkv.weight", attn_v}, {"attn_kv_b.weight", attn_v}, {"attn_v.weight", attn_v},
    {"attn_k.weight", attn_k},   {"attn_q.weight", attn_q},    {"attn_output.weight", attn_output},
    {"ffn_up", ffn_up},          {"ffn_gate", ffn_gate},       {"ffn_down", ffn_down},
};

/// Routers, convolutions, state-space and positional parts: small, and what they hold is delicate.
constexpr std::string_view kKept[] = {
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "position_embd",
    "token_types",
    "ssm_conv1d",
    "shortconv.conv",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first",
    "time_mix_w0",
    "time_mix_w1",
    "time_mix_w2",
    "time_mix_v0",
    "time_mix_v1",
    "time_mix_v2",
    "time_mix_a0",
    "time_mix_a1",
    "time_mix_a2",
    "time_mix_g1",
    "time_mix_g2",
    "time_mix_decay_w1",
    "time_mix_decay_w2",
    "time_mix_lerp_fused",
    "attn_rel_b.weight",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
};

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = char(c - 'a' + 'A');
  return out;
}

const Format& format_named(std::string_view id) {
  const Format* format = find_format(id);
  NIBBLE_CHECK(format != nullptr);
  return *format;
}

std::string_view rule_format(const Level& level, const Site& site) {
  if (site.role == output) return level.output;
  // With eight experts attention is a small part of the model: worth eight bits.
  if ((site.role == attn_v || site.role == attn_k) && eight_experts(site))
    return level.few_bits ? "q4_k" : "q8_0";
  for (const Rule& rule : level.rules)
    if (rule.role == site.role && rule.when(site)) return rule.format;
  return level.format;
}

}  // namespace

Role role_of(std::string_view tensor) {
  if (tensor == "output.weight") return output;
  if (tensor == "token_embd.weight" || tensor == "per_layer_token_embd.weight") return embedding;
  for (const RoleName& entry : kRoles)
    if (tensor.find(entry.part) != tensor.npos) return entry.role;
  return other;
}

bool is_quantizable(std::string_view tensor, std::size_t dims) {
  if (dims < 2 || !tensor.ends_with("weight")) return false;
  return std::none_of(std::begin(kKept), std::end(kKept),
                      [&](std::string_view part) { return tensor.find(part) != tensor.npos; });
}

std::span<const Level> level_table() { return kLevels; }

std::span<const std::string_view> usual_levels() { return kUsualLevels; }

const Level* find_level(std::string_view name) {
  std::string wanted = upper(name);
  for (const Pair& alias : kAliases)
    if (wanted == alias.from) wanted = alias.to;
  for (const Level& level : kLevels)
    if (level.name == wanted) return &level;
  return nullptr;
}

const Format& level_format(const Level& level, const Site& site) {
  const bool blocks = format_named(level.format).block() > 1;
  const std::string_view id = blocks ? rule_format(level, site) : level.format;
  if (site.role == attn_v && site.shared_value && !level.few_bits && (id == "q3_k" || id == "q4_k"))
    return format_named("q5_k");
  return format_named(id);
}

const Format& fitting_format(const Format& format, std::uint64_t columns, bool head) {
  if (columns % std::uint64_t(format.block()) == 0) return format;
  if (columns % 32 != 0 || format.block() <= 32) return format_named("f16");
  if (head) return format_named("q8_0");
  for (const Pair& pair : kNarrow)
    if (pair.from == format.id()) return format_named(pair.to);
  return format_named("iq4_nl");
}

}  // namespace nibble
