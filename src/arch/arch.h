// Architectures: from a checkpoint's configuration to a graph, and between Hugging Face and GGUF
// names.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
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
  /// Hostile input: every number is checked, errors name the field.
  virtual Result<ModelConfig> from_hf(const Json& config) const = 0;
  /// From the keys of a GGUF; what it does not say in keys (tied head, biases, vocabulary,
  /// rope_freqs) from its tensors.
  virtual Result<ModelConfig> from_gguf(const Source& source) const = 0;
  /// Sets the architecture's keys ("llama.block_count", ...), general.architecture included.
  virtual void to_gguf(const ModelConfig& config, Metadata& metadata) const = 0;
  /// One rule a weight of the graph, except weights that are computed (rope_freqs.weight).
  virtual std::vector<TensorRule> tensor_rules(const ModelConfig& config) const = 0;
  /// The name by which the rules know a tensor of a Hugging Face checkpoint; empty for a tensor
  /// that is known and not needed.
  virtual std::string canonical_name(std::string_view stored, const ModelConfig& config) const = 0;
  virtual Graph graph(const ModelConfig& config) const = 0;
};

std::span<const Arch* const> arch_registry();
/// The one that reads a config.json's "architectures"; nullptr: none.
const Arch* find_arch_by_hf(std::string_view name);

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

  /// One a weight of the graph, in the same order: GGUF names and shapes, formats as stored.
  /// Includes rope_freqs.weight where it is computed (Llama 3.1 scaling from Hugging Face).
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  std::optional<std::size_t> find(std::string_view name) const;

  /// Rows [begin, end) of a tensor as float32, in GGUF's order and values: out[(end - begin) *
  /// columns]. Thread-safe.
  void load_rows(std::size_t index, std::uint64_t begin, std::uint64_t end, float* out) const;
  /// The same rows as stored bytes in GGUF's order, row_bytes(columns) each, columns as they are
  /// stored. Only where keeps_values(index).
  void load_bytes(std::size_t index, std::uint64_t begin, std::uint64_t end, std::byte* out) const;
  /// A GGUF would hold the stored values, if perhaps in another order of rows. False for Gemma
  /// norms and computed tensors from Hugging Face checkpoints.
  bool keeps_values(std::size_t index) const;
  /// The stored bytes if they are already what a GGUF would hold (no rewrite needed), else empty.
  std::span<const std::byte> stored(std::size_t index) const;
  /// Multiplies the rows (the elements of a vector) and the columns of a tensor, and its bias if it
  /// has one, on loading; empty: by 1. Its values are then no longer the stored ones. Changes are
  /// made one after the other.
  void rescale(const std::string& name, std::span<const float> rows,
               std::span<const float> columns);
  /// Likewise turns every group of rotation.width() rows, or columns. A matrix with turned rows is
  /// made whole, in float32, and kept until the next such one is asked for.
  void turn_rows(const std::string& name, const Rotation& rotation);
  void turn_columns(const std::string& name, const Rotation& rotation);
  /// Likewise makes all of its values 1.
  void make_ones(const std::string& name);
  /// Gives a head that is the embedding matrix a tensor of its own, output.weight, with the same
  /// values. Before any change; of a head that is no other, nothing.
  void untie_head();
  /// Where the rows of a tensor lie in a checkpoint of Hugging Face.
  struct Stored {
    std::string name;                      // empty: nowhere, it is computed
    std::vector<std::uint32_t> rows = {};  // row r is its row rows[r]; empty: r
    float added = 0;                       // to its values
  };
  Stored stored_as(std::size_t index) const;
  /// Gives pages of these rows back to the system.
  void release_rows(std::size_t index, std::uint64_t begin, std::uint64_t end) const;

 private:
  struct Origin {
    std::size_t source_index = 0;
    TensorRule::Rewrite rewrite = TensorRule::Rewrite::none;
    std::uint64_t head_rows = 0;  // interleave_heads: rows a head
    bool computed = false;        // rope_freqs.weight from the config
    std::string name = {};        // in a checkpoint of Hugging Face; empty: as in the source
  };
  /// Made to rows on loading. Empty: nothing.
  struct Change {
    std::vector<float> rows = {}, columns = {};  // scales
    std::optional<Rotation> turn_rows = {}, turn_columns = {};
    bool ones = false;
  };
  /// The matrix with turned rows that was asked for last.
  struct Whole {
    std::mutex mutex;
    std::size_t index = 0;
    std::shared_ptr<const std::vector<float>> values = {};  // null: none
  };
  void load_stored_rows(std::size_t index, std::uint64_t begin, std::uint64_t end,
                        float* out) const;
  void change(const std::string& name, const Change& change);
  std::shared_ptr<const std::vector<float>> whole(std::size_t index) const;
  static void apply(const Change& change, std::uint64_t begin, std::uint64_t end,
                    std::uint64_t columns, float* out);
  Status from_gguf();
  Status from_hf();
  Status bind(const Weight& weight, std::string_view stored_name, const TensorRule* rule);
  std::uint64_t stored_row(const Origin& origin, std::uint64_t row) const;

  std::unique_ptr<Source> source_;
  const Arch* arch_ = nullptr;
  Graph graph_;
  std::vector<TensorInfo> tensors_;
  std::vector<Origin> origins_;
  std::unordered_map<std::string, std::size_t> index_;
  std::unordered_map<std::size_t, std::vector<Change>> changes_;  // by tensor, in their order
  std::unique_ptr<Whole> whole_ = std::make_unique<Whole>();
};

/// Metadata that a GGUF of this model starts from. For a Hugging Face source: general.* and the
/// architecture's keys; text/ adds tokenizer.* (Tokenizer::to_gguf), the writer of the file adds
/// general.file_type and general.quantization_version. For a GGUF source: all its own keys, the
/// tokenizer's included, without those of splits.
Metadata gguf_metadata(const Model& model);

}  // namespace nibble
