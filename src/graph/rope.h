// Angles of rotary position embeddings.
#pragma once

#include <cstdint>
#include <vector>

#include "arch/config.h"

namespace nibble {

/// Cosines and sines for every position, computed in double precision and rounded once.
class RopeTable {
 public:
  RopeTable() = default;
  /// `local`: the frequencies of sliding-window layers (rope_theta_local, never scaled).
  RopeTable(const ModelConfig& config, bool local);

  /// Angles of positions [first, first + count): cosines and sines [count][head_dim/2].
  void fill(std::uint32_t first, std::int64_t count, float* cosines, float* sines) const;

 private:
  std::vector<double> frequencies_;  // radians a position
  double factor_ = 1;                // of cosines and sines
};

}  // namespace nibble
