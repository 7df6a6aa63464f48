#include "graph/cache.h"

#include <algorithm>

namespace nibble {
namespace {

constexpr std::int64_t kSerialWork = 1 << 15;  // multiplications that do not pay other threads

}  // namespace

KvCache::KvCache(const ModelConfig& config, Precision precision)
    : config_(config),
      ops_(precision == Precision::exact ? ops().cache_f32 : ops().cache_fp16),
      heads_(std::size_t(config.layers) * config.kv_heads) {}

void KvCache::append(int layer, std::uint32_t position, std::int64_t count, const float* keys,
                     const float* values, ThreadPool& pool) {
  const std::int64_t dim = config_.head_dim, row = dim * config_.kv_heads;
  const std::int64_t panels = (position + count + kPanelRows - 1) / kPanelRows;
  const auto needed = std::size_t(panels * kPanelRows * dim * ops_.value_bytes);
  const auto fill = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t h = begin; h < end; ++h) {
      Head& cache = head(layer, h);
      for (auto* buffer : {&cache.keys, &cache.values})
        if (buffer->size() < needed) buffer->resize(std::max(needed, 2 * buffer->size()));
      for (std::int64_t t = 0; t < count; ++t)
        ops_.store(keys + t * row + h * dim, values + t * row + h * dim, int(dim),
                   cache.keys.data(), cache.values.data(), position + t);
    }
  };
  pool.run(config_.kv_heads, count * row > kSerialWork ? 1 : config_.kv_heads, fill);
}

void KvCache::attend(const Node& node, std::uint32_t position, std::int64_t count, const float* q,
                     float* out, ThreadPool& pool) const {
  const std::int64_t dim = config_.head_dim, group = config_.heads / config_.kv_heads,
                     row = dim * config_.heads;
  const std::int64_t blocks = (count + kAttendTokens - 1) / kAttendTokens;
  const auto work = [&](std::int64_t begin, std::int64_t end) {
    static thread_local std::vector<float> scratch;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t h = i % config_.kv_heads, t = i / config_.kv_heads * kAttendTokens;
      const std::int64_t tokens = std::min(kAttendTokens, count - t);
      const std::int64_t floats = attend_scratch(tokens, int(group), int(dim), position + t);
      if (scratch.size() < std::size_t(floats)) scratch.resize(std::size_t(floats));
      const AttendArgs args{.q = q + t * row + h * group * dim,
                            .out = out + t * row + h * group * dim,
                            .q_stride = row,
                            .out_stride = row,
                            .keys = head(node.layer, h).keys.data(),
                            .values = head(node.layer, h).values.data(),
                            .position = position + t,
                            .tokens = tokens,
                            .window = node.window,
                            .group = int(group),
                            .head_dim = int(dim),
                            .scale = node.scale,
                            .cap = node.cap,
                            .scratch = scratch.data()};
      ops_.attend(&args);
    }
  };
  const std::int64_t tasks = blocks * config_.kv_heads;
  pool.run(tasks, count * row * (position + count) > kSerialWork ? 1 : tasks, work);
}

}  // namespace nibble
