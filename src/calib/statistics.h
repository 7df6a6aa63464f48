// Running sums over the inputs of linear layers.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "arch/graph.h"

namespace nibble {

/// Sum of squares of each input column of each tap. Taps are shared by the linears that read the
/// same activation.
class InputStatistics {
 public:
  struct Tap {
    std::vector<double> square_sums;  // one a column
    std::uint64_t count = 0;          // tokens
  };

  /// Adds `tokens` rows of `width` values. The order of addition is that of the calls, so sums are
  /// reproducible.
  void add(const std::string& tap, const float* values, std::int64_t tokens, std::int64_t width);

  const std::map<std::string, Tap>& taps() const { return taps_; }

 private:
  std::map<std::string, Tap> taps_;
};

/// The weight matrices of a graph and the tap each reads.
std::vector<std::pair<std::string, std::string>> tapped_weights(const Graph& graph);

}  // namespace nibble
