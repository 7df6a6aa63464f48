#include "advise/speed.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <numeric>
#include <string>
#include <unordered_map>

#include "eval/metrics.h"
#include "graph/cache.h"
#include "graph/memory.h"
#include "graph/runtime.h"

namespace nibble {
namespace {

constexpr std::uint64_t kProbeBytes = 256u << 20;  // no cache holds them
constexpr std::int64_t kPromptTokens = 96;         // two blocks of tokens: as fast as many
constexpr double kPromptProducts = 2e10;           // of a probe of the prompt, about
constexpr double kSeconds = 0.3;                   // for each level, at least
constexpr std::size_t kMostTimes = 60, kFewestTimes = 3;

/// The seconds that each of the functions takes when they run in turn, so that none finds in a
/// cache what it left there: medians.
template <class... Fn>
Result<std::array<double, sizeof...(Fn)>> seconds(std::size_t fewest, const Fn&... fns) {
  using Clock = std::chrono::steady_clock;
  std::array<std::vector<double>, sizeof...(Fn)> times;
  double sum = 0;
  const auto run = [&](std::vector<double>& out, const auto& fn) -> Status {
    const auto start = Clock::now();
    NIBBLE_DO(fn());
    out.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    sum += out.back();
    return {};
  };
  for (std::size_t n = 0; n <= fewest || (sum < kSeconds && n <= kMostTimes); ++n) {
    Status done;
    std::size_t i = 0;
    ((done = done ? run(times[i++], fns) : done), ...);
    NIBBLE_DO(done);
    if (n > 0) continue;
    sum = 0;  // the first time warms up
    for (auto& each : times) each.clear();
  }
  std::array<double, sizeof...(Fn)> out;
  std::transform(times.begin(), times.end(), out.begin(), [](auto& each) {
    std::sort(each.begin(), each.end());
    return quantile(each, 0.5);
  });
  return out;
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

/// Attention of the last token of a full context, in all blocks of a graph.
class FullAttention {
 public:
  FullAttention(const Graph& graph, std::uint32_t context, const CacheOps& cache, ThreadPool& pool)
      : graph_(graph),
        pool_(pool),
        cache_(std::make_shared<KvPagePool>(graph.config, cache)),
        portion_{&cache_, context - 1, 0, 1},
        q_(std::size_t(graph.config.heads) * graph.config.head_dim),
        out_(q_.size()) {}

  Status reserve() { return cache_.blank(portion_.position + 1); }

  Status run() {
    const int shared = int(graph_.config.heads / graph_.config.kv_heads);
    for (const auto& block : graph_.blocks)
      for (const Node& node : block)
        if (node.kind == Node::Kind::attend)
          attend_to_caches(node, std::span(&portion_, 1), shared, q_.data(), out_.data(), pool_);
    return {};
  }

 private:
  const Graph& graph_;
  ThreadPool& pool_;
  KvCache cache_;
  Portion portion_;
  std::vector<float> q_, out_;
};

}  // namespace

Result<std::optional<LevelSpeed>> SpeedProbe::measure(std::span<const TensorInfo> tensors) {
  const Bytes bytes = bytes_of(graph_, tensors);
  const std::size_t layers = graph_.blocks.size();
  const std::uint64_t blocks = bytes.all() - bytes.outside, block = blocks / layers;
  const std::size_t count = std::min<std::size_t>(layers, kProbeBytes / block + 1);
  const std::uint64_t page_row = cache_bytes(graph_.config, cache_, context_) / layers;
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
  const auto blocks_of_token = [&] { return session.advance(one, 0, int(count)); };
  const auto head_of_token = [&]() -> Status {
    NIBBLE_TRY([[maybe_unused]] const auto logits, session.predict(one));
    return {};
  };
  NIBBLE_TRY(const auto decode, seconds(kFewestTimes, blocks_of_token, head_of_token));
  if (!attention_) {  // the same for all levels
    FullAttention attention(graph, context_, cache_, runtime->pool());
    NIBBLE_DO(attention.reserve());
    NIBBLE_TRY(const auto full,
               seconds(kFewestTimes, blocks_of_token, [&] { return attention.run(); }));
    attention_ = full[1] / double(count) * double(layers);
  }
  const double most = kPromptProducts / double(products_of(graph_, 0) * kPromptTokens);
  const int few = std::clamp(int(most), 1, int(count));
  NIBBLE_TRY(const auto prompt, seconds(1, [&] { return session.advance(hidden, 0, few); }));

  std::uint64_t probed = 0;
  for (const std::size_t layer : kept) probed += bytes.blocks[layer];
  const double token = decode[0] * double(blocks) / double(probed) + decode[1];
  return LevelSpeed{.prefill = double(kPromptTokens) * few / (prompt[0] * double(layers)),
                    .decode = 1 / token,
                    .decode_full = 1 / (token + *attention_)};
}

}  // namespace nibble
