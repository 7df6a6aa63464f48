#include "advise/speed.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <string>
#include <unordered_map>

#include "graph/cache.h"
#include "graph/memory.h"
#include "graph/runtime.h"

namespace nibble {
namespace {

constexpr std::uint64_t kProbeBytes = 256u << 20;  // no cache holds them
constexpr std::int64_t kPromptTokens = 96;         // two blocks of tokens: as fast as many
constexpr double kPromptProducts = 2e10;           // of a probe of the prompt, about
constexpr double kSeconds = 0.15;                  // for each of them, at least
constexpr std::size_t kMostTimes = 25, kFewestTimes = 3;

/// The seconds that fn() takes: the lower quartile, since others may be using the machine.
template <class Fn>
Result<double> seconds(std::size_t fewest, const Fn& fn) {
  using Clock = std::chrono::steady_clock;
  NIBBLE_DO(fn());
  std::vector<double> times;
  double sum = 0;
  while (times.size() < fewest || (sum < kSeconds && times.size() < kMostTimes)) {
    const auto start = Clock::now();
    NIBBLE_DO(fn());
    times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    sum += times.back();
  }
  const std::size_t quarter = times.size() / 4;
  std::nth_element(times.begin(), times.begin() + std::ptrdiff_t(quarter), times.end());
  return times[quarter];
}

/// Bytes of packed weights: of each block, and of the matrices outside.
struct Bytes {
  std::vector<std::uint64_t> blocks;
  std::uint64_t outside = 0;
  std::uint64_t all() const { return std::accumulate(blocks.begin(), blocks.end(), outside); }
};

Bytes bytes_of(const Graph& graph, std::span<const TensorInfo> tensors) {
  std::unordered_map<std::string, int> layers;
  for (const Weight& weight : graph.weights) layers.emplace(weight.name, weight.layer);
  Bytes out{.blocks = std::vector<std::uint64_t>(graph.blocks.size())};
  for (const TensorInfo& tensor : tensors) {
    const int layer = layers.at(tensor.name);
    (layer < 0 ? out.outside : out.blocks[std::size_t(layer)]) +=
        weight_bytes(std::span(&tensor, 1));
  }
  return out;
}

/// `count` blocks, spread evenly: levels give some layers more bits than others.
std::vector<std::size_t> spread(std::size_t count, std::size_t layers) {
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back((2 * i + 1) * layers / (2 * count));
  return out;
}

/// The model without its other blocks.
Graph with_blocks(const Graph& graph, const std::vector<std::size_t>& kept) {
  Graph out = graph;
  out.config.layers = std::uint32_t(kept.size());
  out.blocks.clear();
  for (const std::size_t layer : kept) {
    for (Node& node : out.blocks.emplace_back(graph.blocks[layer]))
      node.layer = int(out.blocks.size()) - 1;
  }
  std::erase_if(out.weights, [&](const Weight& weight) {
    return weight.layer >= 0 && std::ranges::count(kept, std::size_t(weight.layer)) == 0;
  });
  return out;
}

std::uint64_t products_of(const Graph& graph, std::size_t block) {
  std::uint64_t sum = 0;
  for (const Weight& weight : graph.weights)
    if (weight.layer == int(block) && weight.shape.size() == 2)
      sum += 2 * weight.shape[0] * weight.shape[1];
  return sum;
}

/// Seconds of attention for the last token of a full context, all blocks of the graph.
Result<double> attention_seconds(const Graph& graph, std::uint32_t context, int threads) {
  const ModelConfig& c = graph.config;
  const auto pages = std::make_shared<KvPagePool>(c, Precision::fast);
  KvCache cache(pages);
  NIBBLE_DO(cache.reserve(0, std::int64_t(context)));
  for (std::uint32_t i = 0; i < context; i += std::uint32_t(kPagePositions))
    std::memset(cache.page(i / kPagePositions), 0, KvPagePool::page_bytes(c, Precision::fast));
  const Portion portion{&cache, context - 1, 0, 1};
  std::vector<float> q(std::size_t(c.heads) * c.head_dim), out(q.size());
  ThreadPool pool(threads);
  return seconds(kFewestTimes, [&]() -> Status {
    for (const auto& block : graph.blocks)
      for (const Node& node : block)
        if (node.kind == Node::Kind::attend)
          attend_to_caches(node, std::span(&portion, 1), int(c.heads / c.kv_heads), q.data(),
                           out.data(), pool);
    return {};
  });
}

}  // namespace

Result<std::optional<LevelSpeed>> SpeedProbe::measure(std::span<const TensorInfo> tensors) {
  const Bytes bytes = bytes_of(graph_, tensors);
  const std::size_t layers = graph_.blocks.size();
  const std::uint64_t blocks = bytes.all() - bytes.outside, block = blocks / layers;
  const std::size_t count = std::min<std::size_t>(layers, kProbeBytes / block + 1);
  const std::uint64_t page_row = cache_bytes(graph_.config, Precision::fast, context_) / layers;
  if (bytes.outside + (block + page_row) * count > memory_) return std::nullopt;

  const std::vector<std::size_t> kept = spread(count, layers);
  const Graph graph = with_blocks(graph_, kept);
  std::unordered_map<std::string, const Format*> formats;
  for (const TensorInfo& tensor : tensors) formats.emplace(tensor.name, tensor.format);
  NIBBLE_TRY(
      const auto runtime,
      Runtime::blank(graph, [&](const Weight& w) -> const Format& { return *formats.at(w.name); },
                     {.threads = threads_}));
  Session session(*runtime, std::uint32_t(kPromptTokens));
  const std::size_t width = graph.config.hidden;
  std::vector<float> hidden(std::size_t(kPromptTokens) * width, 1.0f);
  const auto one = std::span(hidden).first(width);
  NIBBLE_TRY(const double decode,
             seconds(kFewestTimes, [&] { return session.advance(one, 0, int(count)); }));
  NIBBLE_TRY(const double head, seconds(kFewestTimes, [&]() -> Status {
               NIBBLE_TRY([[maybe_unused]] const auto logits, session.predict(one));
               return {};
             }));
  const double most = kPromptProducts / double(products_of(graph_, 0) * kPromptTokens);
  const int few = std::clamp(int(most), 1, int(count));
  NIBBLE_TRY(const double prompt, seconds(1, [&] { return session.advance(hidden, 0, few); }));
  if (!attention_) {
    NIBBLE_TRY(const double measured, attention_seconds(graph, context_, runtime->pool().size()));
    attention_ = measured / double(count) * double(layers);
  }

  std::uint64_t probed = 0;
  for (const std::size_t layer : kept) probed += bytes.blocks[layer];
  const double token = head + decode * double(blocks) / double(probed);
  return LevelSpeed{.prefill = double(kPromptTokens) * few / (prompt * double(layers)),
                    .decode = 1 / token,
                    .decode_full = 1 / (token + *attention_)};
}

}  // namespace nibble
