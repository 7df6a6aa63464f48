// The memory that a model takes when it runs, known before it is loaded: sums of just what loading
// and running allocate.
#pragma once

#include <cstdint>
#include <span>

#include "arch/graph.h"
#include "container/source.h"
#include "kernel/matrix.h"
#include "kernel/ops.h"

namespace nibble {

/// Of weights, packed.
std::uint64_t weight_bytes(std::span<const TensorInfo> tensors);

/// Of the keys and values of one sequence.
std::uint64_t cache_bytes(const ModelConfig& config, const CacheOps& cache,
                          std::uint64_t positions);

/// Of activations, scratch and logits of one session.
std::uint64_t work_bytes(const Graph& graph, Precision precision, std::uint32_t context,
                         int threads);

}  // namespace nibble
