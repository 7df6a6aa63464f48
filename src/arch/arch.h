// Architectures: from a checkpoint's configuration to a graph, and between Hugging Face and GGUF
// names.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "arch/graph.h"
#include "container/source.h"

namespace nibble {

/// How one tensor of the graph is stored in a Hugging Face checkpoint.
struct TensorRule {
  enum class Rewrite {
    none,
    interleave_heads,  // rows of each head: halves stored one after the other in HF, interleaved in
                       // GGUF (llama q, k)
    add_one,           // Gemma norms: GGUF stores 1 + weight
  };
  std::string name;     // GGUF name
  std::string hf_name;  // "model.layers.0.self_attn.q_proj.weight"
  Rewrite rewrite = Rewrite::none;
  std::uint32_t heads = 0;  // interleave_heads
};

class Arch {
 public:
  virtual ~Arch() = default;
  virtual std::string_view id() const = 0;  // GGUF's general.architecture
  virtual std::span<const std::string_view> hf_architectures()
      const = 0;  // "LlamaForCausalLM", ...
  virtual Result<ModelConfig> from_hf(const Json& config) const = 0;
  virtual Result<ModelConfig> from_gguf(const Metadata& metadata) const = 0;
  /// Sets the architecture's keys ("llama.block_count", ...), general.architecture included.
  virtual void to_gguf(const ModelConfig& config, Metadata& metadata) const = 0;
  virtual std::vector<TensorRule> tensor_rules(const ModelConfig& config) const = 0;
  virtual Graph graph(const ModelConfig& config) const = 0;
};

std::span<const Arch* const> arch_registry();

/// A checkpoint with its architecture understood: every weight of the graph under its GGUF name,
/// shapes checked. Owns the source. Thread-safe.
class Model {
 public:
  /// Detects the architecture and checks every tensor against it; errors name file, tensor and
  /// reason.
  static Result<Model> open(const std::string& path);
  static Result<Model> from(std::unique_ptr<Source> source);

  const Source& source() const { return *source_; }
  const Arch& arch() const { return *arch_; }
  const Graph& graph() const { return graph_; }
  const ModelConfig& config() const { return graph_.config; }

  /// Under GGUF names, in GGUF order (embedding, output norm, head, then blocks); formats as
  /// stored. Includes tensors that are generated (rope_freqs.weight for llama3 scaling).
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  std::optional<std::size_t> find(std::string_view name) const;

  /// Rows [begin, end) of a tensor as float32, rewritten to GGUF's order and values. Thread-safe.
  void load_rows(std::size_t index, std::uint64_t begin, std::uint64_t end, float* out) const;
  /// The stored bytes if they are already what a GGUF would hold (no rewrite needed), else empty.
  std::span<const std::byte> stored(std::size_t index) const;
  /// Gives pages of these rows back to the system.
  void release_rows(std::size_t index, std::uint64_t begin, std::uint64_t end) const;

 private:
  struct Origin {
    std::size_t source_index;
    TensorRule::Rewrite rewrite;
    std::uint32_t heads;
  };
  std::unique_ptr<Source> source_;
  const Arch* arch_ = nullptr;
  Graph graph_;
  std::vector<TensorInfo> tensors_;
  std::vector<Origin> origins_;
  std::vector<std::vector<float>> generated_;
};

}  // namespace nibble
