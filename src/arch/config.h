// The numbers that define a decoder-only transformer, whatever file they came from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nibble {

/// How rotary frequencies f_i = theta^(-2i/head_dim) are changed for longer contexts.
struct RopeScaling {
  enum class Kind {
    none,
    linear,   // f_i / factor
    factors,  // f_i / factors[i]; Llama 3.1 computes these from four numbers, GGUF stores them as
              // the tensor rope_freqs.weight
    yarn,     // Peng et al., arXiv:2309.00071
  };
  Kind kind = Kind::none;
  double factor = 1;                     // linear, yarn
  std::vector<float> factors = {};       // factors: [head_dim/2]
  double original_context = 0;           // yarn: tokens the model was first trained on
  double beta_fast = 32, beta_slow = 1;  // yarn
  double attention_factor = 0;           // yarn: factor of cos and sin; 0: 0.1 ln(factor) + 1

  bool operator==(const RopeScaling&) const = default;
};

/// Every real number here is one that a float32 holds, because GGUF stores them so.
struct ModelConfig {
  std::string arch = {};  // Arch::id, also the prefix of GGUF keys: "llama"
  std::uint32_t layers = 0, hidden = 0, inner = 0, heads = 0, kv_heads = 0, head_dim = 0, vocab = 0,
                context = 0;
  float norm_eps = 1e-5f;
  double rope_theta = 10000;
  RopeScaling rope_scaling = {};  // never applied to layers that use rope_theta_local
  double rope_theta_local = 0;  // for sliding-window layers where it differs (Gemma 3); 0: the same
  std::uint32_t window = 0;     // a token sees itself and window - 1 before it; 0: all before it
  std::vector<bool> windowed = {};  // per layer: uses the window. Empty: all layers if window > 0
  bool tied = false;                // the output head is the embedding matrix
  bool qkv_bias = false, output_bias = false, mlp_bias = false;
  float attention_scale = 0;  // factor of q.k; 0: 1/sqrt(head_dim)
  float embedding_scale = 1;  // factor of the embedding
  float final_softcap = 0, attention_softcap = 0;

  bool uses_window(std::uint32_t layer) const {
    return window > 0 && (windowed.empty() || windowed[layer]);
  }
  bool operator==(const ModelConfig&) const = default;
};

}  // namespace nibble
