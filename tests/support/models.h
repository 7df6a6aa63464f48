// Small models with random weights, of an architecture that nibble does not know: what the pipeline
// takes tensor by tensor.
#pragma once

#include <random>

#include "base/half.h"
#include "support/checkpoints.h"

namespace nibble {

/// Normally distributed weights in bf16, f16 or f32.
inline Sample random_sample(const std::string& name, const std::string& id,
                            std::vector<std::uint64_t> shape, unsigned seed = 1) {
  Sample sample = make_sample(name, id, std::move(shape));
  std::mt19937 generator(seed + unsigned(name.size()) * 101 + unsigned(name.back()));
  std::normal_distribution<float> normal(0, 0.1f);
  const std::size_t width = sample.info.format->spec().bytes;
  for (std::size_t at = 0; at < sample.data.size(); at += width) {
    const float x = normal(generator);
    const std::uint16_t half = id == "f16" ? f32_to_fp16(x) : f32_to_bf16(x);
    if (width == 4)
      std::memcpy(&sample.data[at], &x, 4);
    else
      std::memcpy(&sample.data[at], &half, 2);
  }
  return sample;
}

/// Two blocks of a transformer; the rows of ffn_down fit no block of 256.
inline std::vector<Sample> random_model(const std::string& id = "bf16") {
  std::vector<Sample> model = {random_sample("token_embd.weight", id, {96, 256}),
                               random_sample("output_norm.weight", "f32", {256})};
  for (const char* block : {"blk.0.", "blk.1."}) {
    const std::string b = block;
    model.push_back(random_sample(b + "attn_q.weight", id, {256, 256}));
    model.push_back(random_sample(b + "attn_v.weight", id, {64, 256}));
    model.push_back(random_sample(b + "attn_norm.weight", id, {256}));
    model.push_back(random_sample(b + "ffn_down.weight", id, {256, 160}));
  }
  return model;
}

inline Metadata model_metadata() {
  Metadata metadata;
  metadata.set("general.architecture", std::string("test"));
  metadata.set("test.block_count", std::uint32_t(2));
  metadata.set("test.attention.head_count", std::uint32_t(8));
  metadata.set("test.attention.head_count_kv", std::uint32_t(2));
  metadata.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
  return metadata;
}

inline void write_model(const std::string& path, const std::vector<Sample>& samples) {
  const auto paths = write_gguf(path, model_metadata(), samples);
  ASSERT_TRUE(paths) << paths.error().message();
}

}  // namespace nibble
