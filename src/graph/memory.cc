#include "graph/memory.h"

#include <algorithm>

#include "graph/executor.h"
#include "graph/pages.h"
#include "kernel/ops.h"

namespace nibble {

std::uint64_t weight_bytes(std::span<const TensorInfo> tensors) {
  std::uint64_t sum = 0;
  for (const TensorInfo& tensor : tensors)
    sum += tensor.shape.size() < 2
               ? tensor.elements() * sizeof(float)
               : Matrix::packed_bytes(*tensor.format, std::int64_t(tensor.rows()),
                                      std::int64_t(tensor.columns()));
  return sum;
}

std::uint64_t cache_bytes(const ModelConfig& config, const CacheOps& cache,
                          std::uint64_t positions) {
  const std::uint64_t pages = (positions + kPagePositions - 1) / kPagePositions;
  return pages * KvPagePool::page_bytes(config, cache);
}

std::uint64_t work_bytes(const Graph& graph, Precision precision, std::uint32_t context,
                         int threads) {
  const ModelConfig& c = graph.config;
  std::uint64_t widths = 0, widest = 0;
  for (const std::vector<Node>& block : graph.blocks)
    for (const Node& node : block)
      if (node.kind == Node::Kind::linear)
        widest = std::max<std::uint64_t>(widest, graph.slot_width[std::size_t(node.in[0])]);
  for (const std::uint32_t width : graph.slot_width) widths += width;
  widths -= c.vocab;         // logits are made for one row only
  widths += 2 * c.head_dim;  // angles
  const std::uint64_t rows = std::min<std::uint64_t>(context, Executor::kRows);
  // Inputs rounded: at most a float each (bf16), 11/8 bytes as codes.
  const std::uint64_t rounded = precision == Precision::fast ? rows * widest * sizeof(float) : 0;
  const std::int64_t attention = attend_scratch(kAttendTokens, int(c.heads / c.kv_heads),
                                                int(c.head_dim), std::int64_t(context));
  const std::uint64_t products = std::min<std::uint64_t>(rows, Input::kTokenBlock) * widest;
  return rows * widths * sizeof(float) + rounded + c.vocab * sizeof(float) +
         std::uint64_t(threads) * (std::uint64_t(attention) + products) * sizeof(float);
}

}  // namespace nibble
