// A checkpoint in memory: for the tests of arch/ and graph/ and their fuzz target.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "arch/arch.h"
#include "container/source.h"

namespace nibble {

class MemorySource final : public Source {
 public:
  const std::string& path() const override { return location; }
  std::string_view container() const override { return "memory"; }
  std::vector<std::string> files() const override { return {location}; }
  const std::vector<TensorInfo>& tensors() const override { return infos; }
  std::span<const std::byte> data(std::size_t index) const override { return bytes[index]; }
  void release(std::size_t, std::uint64_t, std::uint64_t) const override {}
  const Metadata& metadata() const override { return keys; }
  const HfFiles* hf() const override { return files_of_hf.get(); }

  /// Adds a float32 tensor; `values` are cycled to fill the shape.
  void add(const std::string& name, const std::vector<std::uint64_t>& shape,
           const std::vector<float>& values) {
    TensorInfo info{.name = name, .shape = shape, .format = find_format("f32")};
    info.bytes = info.elements() * sizeof(float);
    std::vector<std::byte> data(info.bytes);
    for (std::uint64_t i = 0; i < info.elements(); ++i)
      std::memcpy(data.data() + i * sizeof(float), &values[i % values.size()], sizeof(float));
    infos.push_back(std::move(info));
    bytes.push_back(std::move(data));
  }
  void set_config(Json config) {
    files_of_hf = std::make_unique<HfFiles>();
    files_of_hf->config = std::move(config);
  }

  std::string location = "memory";
  std::vector<TensorInfo> infos;
  std::vector<std::vector<std::byte>> bytes;
  Metadata keys;
  std::unique_ptr<HfFiles> files_of_hf;
};

/// A small configuration that every architecture understands, under the given class name.
inline Json small_config(std::string_view architecture) {
  Json config = Json::parse(R"({
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 50, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5, "rope_theta": 1000.0})");
  config["architectures"] = {std::string(architecture)};
  return config;
}

/// A Hugging Face checkpoint for a configuration that `arch` accepts, with small different weights.
inline std::unique_ptr<MemorySource> small_checkpoint(const Arch& arch, const Json& json) {
  auto source = std::make_unique<MemorySource>();
  source->set_config(json);
  const auto config = arch.from_hf(json);
  if (!config) return source;
  std::vector<float> values;
  for (std::uint32_t i = 0; i < 997; ++i) values.push_back(float((i * 7919) % 997) / 2000 - 0.25f);
  const Graph graph = arch.graph(*config);
  for (const TensorRule& rule : arch.tensor_rules(*config))
    for (const Weight& weight : graph.weights)
      if (weight.name == rule.name) {
        source->add(rule.hf_name, weight.shape, values);
        values.push_back(values.front());
        values.erase(values.begin());
      }
  return source;
}

/// What a GGUF of the model would hold, in float32.
inline std::unique_ptr<MemorySource> as_gguf(const Model& model) {
  auto source = std::make_unique<MemorySource>();
  source->keys = gguf_metadata(model);
  for (std::size_t i = 0; i < model.tensors().size(); ++i) {
    const TensorInfo& info = model.tensors()[i];
    std::vector<float> values(info.elements());
    model.load_rows(i, 0, info.rows(), values.data());
    source->add(info.name, info.shape, values);
  }
  return source;
}

}  // namespace nibble
