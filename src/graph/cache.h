// Keys and values of the tokens of one sequence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "arch/graph.h"
#include "base/threads.h"
#include "kernel/matrix.h"
#include "kernel/ops.h"

namespace nibble {

/// One buffer of keys and one of values for each layer and key-value head, in the layout of
/// kernel/ops.h, grown by doubling. Precision::exact keeps float32, fast keeps fp16.
class KvCache {
 public:
  KvCache(const ModelConfig& config, Precision precision);

  /// Writes positions [position, position + count); keys and values are [count][kv_heads *
  /// head_dim].
  void append(int layer, std::uint32_t position, std::int64_t count, const float* keys,
              const float* values, ThreadPool& pool);
  /// An attend node for the same tokens, which append() has written: q and out are [count][heads *
  /// head_dim].
  void attend(const Node& node, std::uint32_t position, std::int64_t count, const float* q,
              float* out, ThreadPool& pool) const;

 private:
  struct Head {
    std::vector<std::byte> keys, values;
  };
  Head& head(int layer, std::int64_t h) {
    return heads_[std::size_t(layer) * config_.kv_heads + std::size_t(h)];
  }
  const Head& head(int layer, std::int64_t h) const {
    return heads_[std::size_t(layer) * config_.kv_heads + std::size_t(h)];
  }

  const ModelConfig& config_;
  const CacheOps& ops_;
  std::vector<Head> heads_;  // [layer][kv head]
};

}  // namespace nibble
