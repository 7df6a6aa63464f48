#include "calib/statistics.h"

namespace nibble {

void InputStatistics::add(const std::string& tap, const float* values, std::int64_t tokens,
                          std::int64_t width) {
  Tap& t = taps_[tap];
  t.square_sums.resize(std::size_t(width));
  t.count += std::uint64_t(tokens);
  for (std::int64_t i = 0; i < tokens; ++i, values += width)
    for (std::int64_t j = 0; j < width; ++j)
      t.square_sums[std::size_t(j)] += double(values[j]) * double(values[j]);
}

std::vector<std::pair<std::string, std::string>> tapped_weights(const Graph& graph) {
  std::vector<std::pair<std::string, std::string>> out;
  const auto collect = [&](const std::vector<Node>& nodes) {
    for (const Node& node : nodes)
      if (node.kind == Node::Kind::linear) out.emplace_back(node.weight, node.tap);
  };
  collect(graph.before);
  for (const auto& block : graph.blocks) collect(block);
  collect(graph.after);
  return out;
}

}  // namespace nibble
