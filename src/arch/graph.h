// A transformer as data: what the runtime executes, calibration listens to and transforms rewrite.
//
// Tensor names are GGUF's ("blk.3.attn_q.weight"), whatever file the weights came from. Activations
// live in numbered slots; a slot holds [tokens, width] float32.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "arch/config.h"
#include "transform/rotation.h"

namespace nibble {

using Slot = int;

/// One operation. Unused fields keep their defaults.
struct Node {
  enum class Kind {
    embed,    // out = scale * weight[token]
    norm,     // out = x / rms(x) * weight, over groups of `width` values (width 0: the whole row;
              // head_dim: per head)
    linear,   // out = x weight^T (+ bias)
    rope,     // out = x rotated by position, per head of head_dim, pairs (i, i + head_dim/2) or
              // neighbours
    attend,   // out = softmax(scale * q k^T + mask) v; inputs q, k, v; appends k and v to the cache
              // of `layer`
    glu,      // out = activation(a) * b
    add,      // out = a + b
    softcap,  // out = cap * tanh(x / cap)
  };
  enum class Activation { silu, gelu_tanh };

  Kind kind;
  std::vector<Slot> in = {};
  Slot out = 0;
  std::string weight = {}, bias = {};  // tensor names
  std::string tap =
      {};  // linear: the activation it reads; linears that read the same one share the name
  int layer = -1;
  float scale = 1;           // embed, attend
  float cap = 0;             // softcap; attend: softcap of the scores, 0: none
  std::uint32_t width = 0;   // norm: group width
  std::uint32_t window = 0;  // attend: sliding window, 0: none
  bool local_rope = false;   // rope: uses the local frequencies of sliding-window layers
  bool head = false;         // linear: produces the logits, wanted for selected tokens only
  Activation activation = Activation::silu;
};

/// A weight that the graph reads.
struct Weight {
  enum class Role { embedding, head, matrix, norm, bias, rope };  // rope: rope_freqs.weight
  std::string name;                                               // "blk.0.attn_q.weight"
  std::vector<std::uint64_t> shape;                               // outermost first
  Role role;
  int layer = -1;
};

/// Two places where a per-channel scale moved from one to the other leaves the function unchanged.
struct Fold {
  std::string from;             // a norm weight, or a linear whose rows (and bias) are scaled
  std::vector<std::string> to;  // linears whose columns (inputs) are divided
};

/// Places where every group of `width` channels may be turned by one orthogonal matrix.
struct Turn {
  Channels channels;
  std::uint32_t width = 0;
  std::vector<std::string> rows = {};     // linears that write them, their biases too
  std::vector<std::string> columns = {};  // what reads them; of an embedding, which writes them
  std::vector<std::string> norms = {};    // between: their weights must be 1, and have a fold
};

struct Graph {
  ModelConfig config;
  int slots = 0;
  std::vector<std::uint32_t> slot_width;  // float32 values a token
  std::vector<Node> before;               // embedding
  std::vector<std::vector<Node>> blocks;  // one list a transformer block
  std::vector<Node> after;                // final norm and head
  std::vector<Weight> weights;            // in the order a GGUF holds them
  std::vector<Fold> folds;
  std::vector<Turn> turns;
  bool rope_neighbours = false;  // GGUF llama order: pairs (2i, 2i+1)
};

}  // namespace nibble
