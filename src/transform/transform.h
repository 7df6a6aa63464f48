// WHAT rewrite of the network keeps its function but quantizes better.
//
// A rewrite moves a scale of each channel across a fold of the graph (arch/graph.h): what comes out
// of `from` is divided by it, and the columns of the matrices that read it are multiplied. Or it
// turns channels by an orthogonal matrix (transform/rotation.h): the rows that write them and the
// columns that read them. The file needs nothing special, since all of these are ordinary weights.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/threads.h"
#include "round/rounder.h"
#include "transform/rotation.h"

namespace nibble {

/// One fold, with what calibration knows of its channels.
struct FoldTask {
  std::vector<float> from;           // the weight of the norm before it; empty: a linear layer
  std::vector<RoundTask> to;         // the readers, in the format they will have; `out` is not used
  const SecondMoment* moment;        // of what they read
  const SecondMoment* held_out;      // the same, on windows to choose by
  const Rounder* rounder = nullptr;  // how the readers will be rounded
};

class Transform {
 public:
  virtual ~Transform() = default;
  virtual std::string_view id() const = 0;  // "awq"
  /// A scale for each channel, finite and not zero; empty: the fold stays as it is.
  virtual Result<std::vector<float>> scales(const FoldTask&, ThreadPool&) const {
    return std::vector<float>{};
  }
  /// The channels that it turns; none: it has scales() to choose, which takes a run of the
  /// calibration text.
  virtual std::optional<Channels> turns() const { return std::nullopt; }
};

std::span<const Transform* const> transform_registry();
const Transform* find_transform(std::string_view id);

}  // namespace nibble
