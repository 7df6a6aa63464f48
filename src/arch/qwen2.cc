// Qwen 2 and 2.5: biases on q, k and v. Windows (use_sliding_window) are rare; stock llama.cpp
// ignores them.
#include "arch/decoder.h"
#include "arch/fields.h"

namespace nibble {
namespace {

constexpr std::string_view kNames[] = {"Qwen2ForCausalLM"};
constexpr std::string_view kActivations[] = {"silu"};

class Qwen2 final : public Decoder {
 public:
  Qwen2()
      : Decoder({.id = "qwen2",
                 .hf_architectures = kNames,
                 .defaults = {.context = 32768, .norm_eps = 1e-6f, .rope_theta = 10000}}) {}

 protected:
  Status adapt_hf(const Json& config, ModelConfig& out) const override {
    NIBBLE_DO(hf_activation(config, kActivations));
    if (std::uint64_t(out.heads) * out.head_dim != out.hidden)
      return fail(ErrorCode::unsupported,
                  "field 'head_dim' is {}: {} heads of it do not make hidden_size {}", out.head_dim,
                  out.heads, out.hidden);
    out.qkv_bias = true;
    return hf_optional_windows(config, out);
  }
};

}  // namespace

namespace registry {
const Arch& arch_qwen2() {
  static const Qwen2 qwen2;
  return qwen2;
}
}  // namespace registry
}  // namespace nibble
