// Llama 1, 2, 3 and 3.1, SmolLM, and Mistral.
//
// Mistral becomes GGUF's "llama", as everywhere. Its sliding window is kept in
// llama.attention.sliding_window: nibble runs with it, stock llama.cpp knows no windows for this
// architecture and attends to everything (so do the files its own converter makes, which leaves the
// key out).
#include "arch/decoder.h"
#include "arch/fields.h"

namespace nibble {
namespace {

constexpr std::string_view kNames[] = {"LlamaForCausalLM", "LLaMAForCausalLM",
                                       "MistralForCausalLM"};
constexpr std::string_view kActivations[] = {"silu", "swish"};

class Llama final : public Decoder {
 public:
  Llama()
      : Decoder({.id = "llama",
                 .hf_architectures = kNames,
                 .interleaved = true,
                 .defaults = {.context = 2048, .norm_eps = 1e-6f, .rope_theta = 10000}}) {}

 protected:
  Status adapt_hf(const Json& config, ModelConfig& out) const override {
    NIBBLE_DO(hf_activation(config, kActivations));
    NIBBLE_TRY(const bool attention_bias, json_bool_or(config, "attention_bias", false));
    NIBBLE_TRY(out.mlp_bias, json_bool_or(config, "mlp_bias", false));
    out.qkv_bias = out.output_bias = attention_bias;
    NIBBLE_TRY(const std::string name, hf_architecture(config));
    if (name == "MistralForCausalLM") {
      NIBBLE_TRY(out.window, hf_window(config, 4096));
    }
    return {};
  }
};

}  // namespace

namespace registry {
const Arch& arch_llama() {
  static const Llama llama;
  return llama;
}
}  // namespace registry
}  // namespace nibble
