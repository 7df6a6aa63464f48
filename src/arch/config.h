// The numbers that define a decoder-only transformer, whatever file they came from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nibble {

struct RopeScaling {
  enum class Kind { none, linear, llama3, yarn };
  Kind kind = Kind::none;
  double factor = 1;
  double original_context = 0;
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double beta_fast = 32, beta_slow = 1,
         attention_factor = 0;  // yarn; attention_factor 0: 0.1 ln(factor) + 1
};

struct ModelConfig {
  std::string arch;  // Arch::id, also the prefix of GGUF keys: "llama"
  std::uint32_t layers = 0, hidden = 0, inner = 0, heads = 0, kv_heads = 0, head_dim = 0, vocab = 0,
                context = 0;
  float norm_eps = 1e-5f;
  double rope_theta = 10000;
  RopeScaling rope_scaling;
  double rope_theta_local = 0;  // for sliding-window layers where it differs (Gemma 3); 0: the same
  std::uint32_t window = 0;     // sliding window in tokens; 0: none
  std::vector<bool> windowed;   // per layer: uses the window. Empty: all layers if window > 0
  bool tied = false;            // the output head is the embedding matrix
  bool qkv_bias = false;
  float attention_scale = 0;  // factor of q.k; 0: 1/sqrt(head_dim)
  float embedding_scale = 1;  // factor of the embedding
  float final_softcap = 0, attention_softcap = 0;
};

}  // namespace nibble
