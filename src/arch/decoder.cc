#include "arch/decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "arch/fields.h"

namespace nibble {
namespace {

/// A whole number of the configuration, under both its names.
struct Count {
  std::uint32_t ModelConfig::*member;
  const char* hf;
  const char* gguf;
  std::uint32_t low, high;
};

constexpr Count kCounts[] = {
    {&ModelConfig::layers, "num_hidden_layers", "block_count", 1, 512},
    {&ModelConfig::hidden, "hidden_size", "embedding_length", 1, 1u << 20},
    {&ModelConfig::inner, "intermediate_size", "feed_forward_length", 1, 1u << 22},
    {&ModelConfig::heads, "num_attention_heads", "attention.head_count", 1, 1u << 14},
    {&ModelConfig::kv_heads, "num_key_value_heads", "attention.head_count_kv", 1, 1u << 14},
    {&ModelConfig::head_dim, "head_dim", "attention.key_length", 2, 4096},
    {&ModelConfig::vocab, "vocab_size", "vocab_size", 1, 1u << 24},
    {&ModelConfig::context, "max_position_embeddings", "context_length", 1, 1u << 28},
};

/// Reads all counts with `get(count, otherwise)`; heads come before what defaults to them.
template <class Get>
Status read_counts(ModelConfig& out, const Get& get) {
  for (const Count& count : kCounts) {
    std::uint32_t otherwise = out.*count.member;
    if (otherwise == 0 && count.member == &ModelConfig::kv_heads) otherwise = out.heads;
    if (otherwise == 0 && count.member == &ModelConfig::head_dim)
      otherwise = out.hidden / out.heads;
    NIBBLE_TRY(out.*count.member, get(count, otherwise));
  }
  return {};
}

/// What must hold between the numbers. `name(count)` is the field's name in the file at hand.
template <class Name>
Status check(const ModelConfig& c, const Name& name) {
  if (c.heads % c.kv_heads != 0)
    return fail(ErrorCode::corrupt, "field '{}' is {}, which does not divide {} heads",
                name(kCounts[4]), c.kv_heads, c.heads);
  if (c.head_dim % 2 != 0)
    return fail(ErrorCode::corrupt, "field '{}' is {}, expected an even number", name(kCounts[5]),
                c.head_dim);
  return {};
}

std::string block_name(std::uint32_t layer, std::string_view rest) {
  return fmt::format("blk.{}.{}", layer, rest);
}

/// Slots of activations; all blocks share them.
enum : Slot { kHidden, kNormed, kQuery, kKey, kValue, kMixed, kDelta, kGate, kUp, kLogits, kSlots };

/// Adds nodes and the weights they read together, so that neither is forgotten.
class Builder {
 public:
  Builder(const ModelConfig& config, const DecoderTraits& traits) : c_(config), traits_(traits) {
    const std::uint32_t q = c_.heads * c_.head_dim, kv = c_.kv_heads * c_.head_dim;
    graph_.config = config;
    graph_.rope_neighbours = traits.interleaved;
    graph_.slots = kSlots;
    graph_.slot_width = {c_.hidden, c_.hidden, q,        kv,       kv,
                         q,         c_.hidden, c_.inner, c_.inner, c_.vocab};
    residual_.width = c_.hidden;
  }

  Graph build() && {
    weight("token_embd.weight", {c_.vocab, c_.hidden}, Weight::Role::embedding);
    graph_.before = {{.kind = Node::Kind::embed,
                      .out = kHidden,
                      .weight = "token_embd.weight",
                      .scale = c_.embedding_scale}};
    residual_.columns.push_back("token_embd.weight");
    after();
    if (c_.rope_scaling.kind == RopeScaling::Kind::factors)
      weight("rope_freqs.weight", {c_.head_dim / 2}, Weight::Role::rope);
    for (layer_ = 0; layer_ < int(c_.layers); ++layer_) {
      nodes_ = &graph_.blocks.emplace_back();
      attention();
      feed_forward();
    }
    if (!traits_.post_norms && !c_.tied) graph_.turns.push_back(std::move(residual_));
    return std::move(graph_);
  }

 private:
  std::string name(std::string_view rest) const {
    return layer_ < 0 ? std::string(rest) : block_name(std::uint32_t(layer_), rest);
  }
  void weight(std::string name, std::vector<std::uint64_t> shape, Weight::Role role) {
    graph_.weights.push_back({std::move(name), std::move(shape), role, layer_});
  }
  Node& add(Node node) {
    node.layer = layer_;
    return nodes_->emplace_back(std::move(node));
  }

  void norm(std::string_view rest, Slot in, Slot out, std::uint32_t width) {
    weight(name(rest), {width}, Weight::Role::norm);
    add({.kind = Node::Kind::norm, .in = {in}, .out = out, .weight = name(rest), .width = width});
  }

  void linear(std::string_view rest, Slot in, Slot out, std::string_view tap, bool biased) {
    const auto& width = graph_.slot_width;
    const std::string base = name(rest);
    weight(base + ".weight", {width[out], width[in]}, Weight::Role::matrix);
    if (biased) weight(base + ".bias", {width[out]}, Weight::Role::bias);
    add({.kind = Node::Kind::linear,
         .in = {in},
         .out = out,
         .weight = base + ".weight",
         .bias = biased ? base + ".bias" : "",
         .tap = name(tap)});
  }

  void fold(std::string_view from, std::initializer_list<std::string_view> to) {
    Fold fold{name(from), {}};
    for (const auto rest : to) fold.to.push_back(name(rest));
    graph_.folds.push_back(std::move(fold));
  }

  /// A norm of the residual stream, and all that reads what it makes.
  void fold_residual(std::string_view norm, std::initializer_list<std::string_view> to) {
    fold(norm, to);
    residual_.norms.push_back(name(norm));
    for (const auto rest : to) residual_.columns.push_back(name(rest));
  }

  void attention() {
    const auto layer = std::uint32_t(layer_);
    const bool windowed = c_.uses_window(layer);
    norm("attn_norm.weight", kHidden, kNormed, c_.hidden);
    linear("attn_q", kNormed, kQuery, "attn_in", c_.qkv_bias);
    linear("attn_k", kNormed, kKey, "attn_in", c_.qkv_bias);
    linear("attn_v", kNormed, kValue, "attn_in", c_.qkv_bias);
    fold_residual("attn_norm.weight", {"attn_q.weight", "attn_k.weight", "attn_v.weight"});
    if (traits_.qk_norm) {
      norm("attn_q_norm.weight", kQuery, kQuery, c_.head_dim);
      norm("attn_k_norm.weight", kKey, kKey, c_.head_dim);
    }
    for (const Slot slot : {kQuery, kKey})
      add({.kind = Node::Kind::rope,
           .in = {slot},
           .out = slot,
           .local_rope = windowed && c_.rope_theta_local > 0});
    const float scale = c_.attention_scale;
    add({.kind = Node::Kind::attend,
         .in = {kQuery, kKey, kValue},
         .out = kMixed,
         .scale = scale > 0 ? scale : 1 / std::sqrt(float(c_.head_dim)),
         .cap = c_.attention_softcap,
         .window = windowed ? c_.window : 0});
    linear("attn_output", kMixed, kDelta, "attn_out", c_.output_bias);
    if (c_.heads == c_.kv_heads) fold("attn_v.weight", {"attn_output.weight"});
    residual_.rows.push_back(name("attn_output.weight"));
    graph_.turns.push_back({.channels = Channels::values,
                            .width = c_.head_dim,
                            .rows = {name("attn_v.weight")},
                            .columns = {name("attn_output.weight")}});
    if (traits_.post_norms) norm("post_attention_norm.weight", kDelta, kDelta, c_.hidden);
    add({.kind = Node::Kind::add, .in = {kHidden, kDelta}, .out = kHidden});
  }

  void feed_forward() {
    norm("ffn_norm.weight", kHidden, kNormed, c_.hidden);
    linear("ffn_gate", kNormed, kGate, "ffn_in", c_.mlp_bias);
    linear("ffn_up", kNormed, kUp, "ffn_in", c_.mlp_bias);
    fold_residual("ffn_norm.weight", {"ffn_gate.weight", "ffn_up.weight"});
    add({.kind = Node::Kind::glu,
         .in = {kGate, kUp},
         .out = kGate,
         .activation = traits_.activation});
    linear("ffn_down", kGate, kDelta, "ffn_mid", c_.mlp_bias);
    fold("ffn_up.weight", {"ffn_down.weight"});
    residual_.rows.push_back(name("ffn_down.weight"));
    if (traits_.post_norms) norm("post_ffw_norm.weight", kDelta, kDelta, c_.hidden);
    add({.kind = Node::Kind::add, .in = {kHidden, kDelta}, .out = kHidden});
  }

  void after() {
    nodes_ = &graph_.after;
    norm("output_norm.weight", kHidden, kNormed, c_.hidden);
    if (!c_.tied) {
      weight("output.weight", {c_.vocab, c_.hidden}, Weight::Role::head);
      fold_residual("output_norm.weight", {"output.weight"});
    }
    add({.kind = Node::Kind::linear,
         .in = {kNormed},
         .out = kLogits,
         .weight = c_.tied ? "token_embd.weight" : "output.weight",
         .tap = "output_in",
         .head = true});
    if (c_.final_softcap > 0)
      add({.kind = Node::Kind::softcap, .in = {kLogits}, .out = kLogits, .cap = c_.final_softcap});
  }

  const ModelConfig& c_;
  const DecoderTraits& traits_;
  Graph graph_;
  Turn residual_{.channels = Channels::residual};
  std::vector<Node>* nodes_ = nullptr;
  int layer_ = -1;
};

/// Names in a block: GGUF's and Hugging Face's.
struct Pair {
  const char* gguf;
  const char* hf;
};
constexpr Pair kMatrices[] = {
    {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},      {"attn_output", "self_attn.o_proj"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},       {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"attn_norm", "input_layernorm"},
};
constexpr Pair kNorms[] = {{"ffn_norm", "post_attention_layernorm"}};
constexpr Pair kNormsWithPost[] = {{"post_attention_norm", "post_attention_layernorm"},
                                   {"ffn_norm", "pre_feedforward_layernorm"},
                                   {"post_ffw_norm", "post_feedforward_layernorm"}};

/// "model.layers.3.self_attn.q_proj.weight" for "blk.3.attn_q.weight".
std::string hf_name(const Weight& weight, bool post_norms) {
  if (weight.name == "token_embd.weight") return "model.embed_tokens.weight";
  if (weight.name == "output_norm.weight") return "model.norm.weight";
  if (weight.name == "output.weight") return "lm_head.weight";
  const std::string prefix = block_name(std::uint32_t(weight.layer), "");
  const std::size_t dot = weight.name.rfind('.');
  const std::string stem = weight.name.substr(prefix.size(), dot - prefix.size());
  const auto in = [&](std::span<const Pair> pairs) -> const char* {
    for (const Pair& pair : pairs)
      if (stem == pair.gguf) return pair.hf;
    return nullptr;
  };
  const char* found = in(kMatrices);
  if (!found) found = post_norms ? in(kNormsWithPost) : in(kNorms);
  NIBBLE_CHECK(found);
  return fmt::format("model.layers.{}.{}{}", weight.layer, found, weight.name.substr(dot));
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

Status gguf_windows(const Metadata& metadata, const std::string& prefix, std::uint32_t period,
                    ModelConfig& out) {
  NIBBLE_TRY(const std::uint64_t window, metadata.uint_or(prefix + "attention.sliding_window", 0));
  NIBBLE_TRY(out.window, in_range(prefix + "attention.sliding_window", window, 0, 1u << 28));
  const std::string key = prefix + "attention.sliding_window_pattern";
  const MetaValue* pattern = metadata.find(key);
  if (const auto* list = pattern ? std::get_if<std::vector<bool>>(pattern) : nullptr) {
    if (list->size() != out.layers)
      return fail(ErrorCode::corrupt, "field '{}' has {} entries for {} layers", key, list->size(),
                  out.layers);
    out.windowed = *list;
    return {};
  }
  NIBBLE_TRY(period, in_range(key, metadata.uint_or(key, period), 0, 1024));
  for (std::uint32_t i = 0; i < out.layers; ++i)
    out.windowed.push_back(period < 2 || (i + 1) % period != 0);
  return {};
}

/// What a GGUF says by having a tensor or not.
Status read_tensors(const Source& source, ModelConfig& out) {
  const auto has = [&](const char* name) { return source.find(name).has_value(); };
  out.tied = !has("output.weight");
  out.qkv_bias = has("blk.0.attn_q.bias");
  out.output_bias = has("blk.0.attn_output.bias");
  out.mlp_bias = has("blk.0.ffn_up.bias");
  const auto freqs = source.find("rope_freqs.weight");
  if (!freqs) return {};
  const TensorInfo& info = source.tensors()[*freqs];
  if (info.shape != std::vector<std::uint64_t>{out.head_dim / 2} || info.format->block() != 1)
    return fail(ErrorCode::corrupt, "tensor 'rope_freqs.weight': expected {} unquantized values",
                out.head_dim / 2);
  if (out.rope_scaling.kind != RopeScaling::Kind::none)
    return fail(ErrorCode::unsupported, "rope.scaling.type and rope_freqs.weight together");
  out.rope_scaling.kind = RopeScaling::Kind::factors;
  out.rope_scaling.factors.resize(out.head_dim / 2);
  info.format->decode(source.data(*freqs).data(), out.head_dim / 2,
                      out.rope_scaling.factors.data());
  for (const float factor : out.rope_scaling.factors)
    if (!(factor >= 1e-6f && factor <= 1e6f))
      return fail(ErrorCode::corrupt, "tensor 'rope_freqs.weight' holds {}", factor);
  return {};
}

}  // namespace

Status Decoder::adapt_gguf(const Metadata&, const std::string&, ModelConfig&) const { return {}; }

Result<ModelConfig> Decoder::from_hf(const Json& config) const {
  if (!config.is_object()) return fail(ErrorCode::corrupt, "the configuration is not an object");
  ModelConfig out = traits_.defaults;
  out.arch = traits_.id;
  NIBBLE_DO(read_counts(out, [&](const Count& count, std::uint32_t otherwise) {
    auto value = json_uint_or(config, count.hf, otherwise);
    if (otherwise == 0) value = json_uint(config, count.hf);
    return in_range(count.hf, value, count.low, count.high);
  }));
  NIBBLE_DO(check(out, [](const Count& count) { return count.hf; }));
  NIBBLE_TRY(
      const double eps,
      in_range("rms_norm_eps", json_number_or(config, "rms_norm_eps", out.norm_eps), 1e-12, 1));
  out.norm_eps = float(eps);
  NIBBLE_TRY(out.tied, json_bool_or(config, "tie_word_embeddings", out.tied));
  NIBBLE_DO(hf_rope(config, out));
  NIBBLE_DO(adapt_hf(config, out));
  normalize_windows(out);
  return out;
}

Result<ModelConfig> Decoder::from_gguf(const Source& source) const {
  const Metadata& metadata = source.metadata();
  const std::string prefix = std::string(traits_.id) + ".";
  ModelConfig out;
  out.arch = traits_.id;
  out.rope_theta_local = traits_.defaults.rope_theta_local;
  if (const auto embedding = source.find("token_embd.weight"))
    out.vocab = std::uint32_t(std::min<std::uint64_t>(source.tensors()[*embedding].rows(), ~0u));
  NIBBLE_DO(read_counts(out, [&](const Count& count, std::uint32_t otherwise) {
    const std::string key = prefix + count.gguf;
    auto value = metadata.uint_or(key, otherwise);
    if (otherwise == 0) value = metadata.uint(key);
    return in_range(key, value, count.low, count.high);
  }));
  NIBBLE_DO(check(out, [&](const Count& count) { return prefix + count.gguf; }));
  for (const char* rest : {"attention.value_length", "rope.dimension_count"}) {
    NIBBLE_TRY(const std::uint64_t width, metadata.uint_or(prefix + rest, out.head_dim));
    if (width != out.head_dim)
      return fail(ErrorCode::unsupported, "field '{}{}' is {}, but attention.key_length is {}",
                  prefix, rest, width, out.head_dim);
  }
  NIBBLE_TRY(const std::uint64_t experts, metadata.uint_or(prefix + "expert_count", 0));
  if (experts != 0)
    return fail(ErrorCode::unsupported, "field '{}expert_count' is {}: no mixture of experts yet",
                prefix, experts);
  const std::string eps_key = prefix + "attention.layer_norm_rms_epsilon";
  NIBBLE_TRY(const double eps, in_range(eps_key, metadata.number(eps_key), 1e-12, 1));
  out.norm_eps = float(eps);
  const std::string cap_key = prefix + "final_logit_softcapping";
  NIBBLE_TRY(const double cap, in_range(cap_key, metadata.number_or(cap_key, 0), 0, 1e6));
  out.final_softcap = float(cap);
  NIBBLE_DO(gguf_rope(metadata, prefix, out));
  NIBBLE_DO(gguf_windows(metadata, prefix, traits_.window_period, out));
  NIBBLE_DO(read_tensors(source, out));
  NIBBLE_DO(adapt_gguf(metadata, prefix, out));
  normalize_windows(out);
  return out;
}

void Decoder::to_gguf(const ModelConfig& c, Metadata& metadata) const {
  const std::string prefix = std::string(traits_.id) + ".";
  metadata.set("general.architecture", std::string(traits_.id));
  for (const Count& count : kCounts) metadata.set(prefix + count.gguf, c.*count.member);
  metadata.set(prefix + "attention.value_length", c.head_dim);
  metadata.set(prefix + "attention.layer_norm_rms_epsilon", c.norm_eps);
  rope_to_gguf(c, prefix, metadata);
  if (c.final_softcap > 0) metadata.set(prefix + "final_logit_softcapping", c.final_softcap);
  if (c.window == 0) return;
  metadata.set(prefix + "attention.sliding_window", c.window);
  bool usual = true;
  std::vector<bool> pattern;
  for (std::uint32_t i = 0; i < c.layers; ++i) {
    pattern.push_back(c.uses_window(i));
    usual &= pattern[i] == (traits_.window_period < 2 || (i + 1) % traits_.window_period != 0);
  }
  if (!usual) metadata.set(prefix + "attention.sliding_window_pattern", pattern);
}

std::vector<TensorRule> Decoder::tensor_rules(const ModelConfig& config) const {
  std::vector<TensorRule> rules;
  for (const Weight& weight : graph(config).weights) {
    if (weight.role == Weight::Role::rope) continue;
    TensorRule rule{.name = weight.name, .hf_name = hf_name(weight, traits_.post_norms)};
    const bool query = weight.name.find(".attn_q.") != std::string::npos;
    const bool key = weight.name.find(".attn_k.") != std::string::npos;
    if (traits_.interleaved && (query || key)) {
      rule.rewrite = TensorRule::Rewrite::interleave_heads;
      rule.heads = query ? config.heads : config.kv_heads;
    } else if (traits_.norm_add_one && weight.role == Weight::Role::norm) {
      rule.rewrite = TensorRule::Rewrite::add_one;
    }
    rules.push_back(std::move(rule));
  }
  return rules;
}

std::string Decoder::canonical_name(std::string_view stored, const ModelConfig& config) const {
  if (ends_with(stored, "rotary_emb.inv_freq")) return "";   // computed from the configuration
  if (config.tied && stored == "lm_head.weight") return "";  // the embedding once more
  return std::string(stored);
}

Graph Decoder::graph(const ModelConfig& config) const { return Builder(config, traits_).build(); }

}  // namespace nibble
