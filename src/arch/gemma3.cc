// Gemma 3, text: five windowed layers with their own rotary base, then one that sees everything;
// norms before and after each half of a block, stored as 1 + weight in GGUF; embeddings scaled by
// sqrt(hidden). The vision tower of Gemma3ForConditionalGeneration is left out.
#include <cmath>

#include "arch/decoder.h"
#include "arch/fields.h"

namespace nibble {
namespace {

constexpr std::string_view kNames[] = {"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"};
constexpr std::string_view kActivations[] = {"gelu_pytorch_tanh"};
constexpr std::string_view kVision[] = {"vision_tower.", "multi_modal_projector."};
constexpr std::uint32_t kPeriod = 6;

/// What runtimes assume where a GGUF has no attention.scale: only the 27B model (62 layers) scales
/// by the width of a head that hidden_size implies. Stock llama.cpp does not read the key, so a
/// model with another scale runs right only here; none is known.
float usual_scale(const ModelConfig& c) {
  return 1 / std::sqrt(float(c.layers == 62 ? c.hidden / c.heads : c.head_dim));
}

bool remove_prefix(std::string_view& name, std::string_view prefix) {
  if (name.substr(0, prefix.size()) != prefix) return false;
  name.remove_prefix(prefix.size());
  return true;
}

class Gemma3 final : public Decoder {
 public:
  Gemma3()
      : Decoder({.id = "gemma3",
                 .hf_architectures = kNames,
                 .activation = Node::Activation::gelu_tanh,
                 .qk_norm = true,
                 .post_norms = true,
                 .norm_add_one = true,
                 .window_period = kPeriod,
                 .defaults = {.heads = 8,
                              .kv_heads = 4,
                              .head_dim = 256,
                              .vocab = 262208,
                              .context = 131072,
                              .norm_eps = 1e-6f,
                              .rope_theta = 1e6,
                              .rope_theta_local = 1e4,
                              .tied = true}}) {}

  Result<ModelConfig> from_hf(const Json& config) const override {
    const auto text = config.find("text_config");
    if (text == config.end()) return Decoder::from_hf(config);
    if (!text->is_object()) return fail(ErrorCode::corrupt, "field 'text_config' is not an object");
    NIBBLE_TRY_IN("text_config", ModelConfig out, Decoder::from_hf(*text));
    return out;
  }

  void to_gguf(const ModelConfig& c, Metadata& metadata) const override {
    Decoder::to_gguf(c, metadata);
    if (c.attention_scale != usual_scale(c))
      metadata.set("gemma3.attention.scale", c.attention_scale);
  }

  /// Text weights are "model.*" alone, "language_model.model.*" or "model.language_model.*" beside
  /// vision.
  std::string canonical_name(std::string_view name, const ModelConfig& config) const override {
    std::string_view rest = name;
    const bool in_model = remove_prefix(rest, "model.");
    for (const std::string_view vision : kVision)
      if (rest.substr(0, vision.size()) == vision) return "";
    if (remove_prefix(rest, "language_model."))
      return Decoder::canonical_name((in_model ? "model." : "") + std::string(rest), config);
    return Decoder::canonical_name(name, config);
  }

 protected:
  Status adapt_hf(const Json& config, ModelConfig& out) const override {
    NIBBLE_DO(hf_activation(config, kActivations));
    if (const auto cap = config.find("attn_logit_softcapping");
        cap != config.end() && !cap->is_null())
      return fail(ErrorCode::unsupported,
                  "field 'attn_logit_softcapping' is set, which no Gemma 3 runtime applies");
    NIBBLE_TRY(const bool biased, json_bool_or(config, "attention_bias", false));
    NIBBLE_TRY(const bool both_ways, json_bool_or(config, "use_bidirectional_attention", false));
    if (biased || both_ways)
      return fail(ErrorCode::unsupported, "field '{}' is true, expected false",
                  biased ? "attention_bias" : "use_bidirectional_attention");
    NIBBLE_TRY(const double scalar,
               in_range("query_pre_attn_scalar",
                        json_number_or(config, "query_pre_attn_scalar", 256), 1e-3, 1e6));
    out.attention_scale = 1 / std::sqrt(float(scalar));
    NIBBLE_TRY(const double cap,
               in_range("final_logit_softcapping",
                        json_number_or(config, "final_logit_softcapping", 0), 0, 1e6));
    out.final_softcap = float(cap);
    NIBBLE_TRY(out.window, hf_window(config, 4096));
    NIBBLE_TRY(const double period,
               in_range("sliding_window_pattern",
                        json_number_or(config, "sliding_window_pattern", kPeriod), 1, 1024));
    NIBBLE_DO(hf_layer_types(
        config, [&](std::uint32_t layer) { return (layer + 1) % std::uint32_t(period) != 0; },
        out));
    out.embedding_scale = std::sqrt(float(out.hidden));
    return {};
  }

  Status adapt_gguf(const Metadata& metadata, const std::string& prefix,
                    ModelConfig& out) const override {
    NIBBLE_TRY(
        const double scale,
        in_range(prefix + "attention.scale",
                 metadata.number_or(prefix + "attention.scale", usual_scale(out)), 1e-6, 1e6));
    out.attention_scale = float(scale);
    out.embedding_scale = std::sqrt(float(out.hidden));
    return {};
  }
};

}  // namespace

namespace registry {
const Arch& arch_gemma3() {
  static const Gemma3 gemma3;
  return gemma3;
}
}  // namespace registry
}  // namespace nibble
