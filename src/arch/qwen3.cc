// Qwen 3, dense: no biases, an RMS norm for each head of q and k.
#include "arch/decoder.h"
#include "arch/fields.h"

namespace nibble {
namespace {

constexpr std::string_view kNames[] = {"Qwen3ForCausalLM"};
constexpr std::string_view kActivations[] = {"silu"};

class Qwen3 final : public Decoder {
 public:
  Qwen3()
      : Decoder({.id = "qwen3",
                 .hf_architectures = kNames,
                 .qk_norm = true,
                 .defaults = {
                     .head_dim = 128, .context = 32768, .norm_eps = 1e-6f, .rope_theta = 10000}}) {}

 protected:
  Status adapt_hf(const Json& config, ModelConfig& out) const override {
    NIBBLE_DO(hf_activation(config, kActivations));
    NIBBLE_TRY(const bool biased, json_bool_or(config, "attention_bias", false));
    if (biased)
      return fail(ErrorCode::unsupported,
                  "field 'attention_bias' is true, which GGUF runtimes cannot load for qwen3");
    return hf_optional_windows(config, out);
  }
};

}  // namespace

namespace registry {
const Arch& arch_qwen3() {
  static const Qwen3 qwen3;
  return qwen3;
}
}  // namespace registry
}  // namespace nibble
