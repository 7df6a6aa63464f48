// How fast a model in given formats would run here, measured on blocks of zeros.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "arch/graph.h"
#include "container/source.h"
#include "kernel/ops.h"
#include "nibble/advise.h"

namespace nibble {

/// Speed does not depend on the values of weights, so the runtime itself is timed with weights that
/// are zero: as many blocks as no cache holds, the others by the bytes that they have more.
class SpeedProbe {
 public:
  /// `context`: what a full one is, in a cache of type `cache`. `memory`: bytes that may be used
  /// for it.
  SpeedProbe(const Graph& graph, std::uint32_t context, const CacheOps& cache, int threads,
             std::uint64_t memory)
      : graph_(graph), context_(context), cache_(cache), threads_(threads), memory_(memory) {}

  /// None: a block alone takes too much memory.
  Result<std::optional<LevelSpeed>> measure(std::span<const TensorInfo> tensors);

 private:
  const Graph& graph_;
  std::uint32_t context_;
  const CacheOps& cache_;
  int threads_;
  std::uint64_t memory_;
  std::optional<double> attention_ = {};  // seconds for one token and all blocks, full context
};

}  // namespace nibble
