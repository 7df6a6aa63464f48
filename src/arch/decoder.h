// The decoder that Llama and its descendants share; an architecture file states what differs.
#pragma once

#include "arch/arch.h"

namespace nibble {

struct DecoderTraits {
  std::string_view id;
  std::span<const std::string_view> hf_architectures;
  Node::Activation activation = Node::Activation::silu;
  bool interleaved = false;   // GGUF rotates neighbouring pairs, so q and k rows are reordered
  bool qk_norm = false;       // an RMS norm a head after the q and k projections
  bool post_norms = false;    // norms after attention and feed-forward too
  bool norm_add_one = false;  // checkpoints hold norm weights minus one
  std::uint32_t window_period = 1;  // GGUF without a pattern: every period-th layer sees everything
                                    // (1: windows everywhere)
  ModelConfig defaults;             // of fields that a config.json may leave out; 0: required
};

class Decoder : public Arch {
 public:
  explicit Decoder(DecoderTraits traits) : traits_(std::move(traits)) {}

  std::string_view id() const override { return traits_.id; }
  std::span<const std::string_view> hf_architectures() const override {
    return traits_.hf_architectures;
  }
  Result<ModelConfig> from_hf(const Json& config) const override;
  Result<ModelConfig> from_gguf(const Source& source) const override;
  void to_gguf(const ModelConfig& config, Metadata& metadata) const override;
  std::vector<TensorRule> tensor_rules(const ModelConfig& config) const override;
  std::string canonical_name(std::string_view stored, const ModelConfig& config) const override;
  Graph graph(const ModelConfig& config) const override;

 protected:
  /// What only this architecture's config.json says. The common fields are filled in.
  virtual Status adapt_hf(const Json& config, ModelConfig& out) const = 0;
  /// The same for GGUF keys (`prefix` is "llama.").
  virtual Status adapt_gguf(const Metadata& metadata, const std::string& prefix,
                            ModelConfig& out) const;

  const DecoderTraits& traits() const { return traits_; }

 private:
  DecoderTraits traits_;
};

}  // namespace nibble
