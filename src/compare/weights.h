// How far the decoded weights of a model lie from another's.
#pragma once

#include "arch/arch.h"
#include "base/threads.h"
#include "nibble/compare.h"

namespace nibble {

struct WeightComparison {
  std::vector<MatrixError>
      matrices;  // in the order of the graph; those of other shapes are left out
  bool rescaled = false;
};

/// Scales that were moved along the original's folds (AWQ, norms folded away) are undone first.
/// Rotations are not: their matrices show errors of about 2.
/// Error: cancelled.
Result<WeightComparison> compare_weights(const Model& original, const Model& model,
                                         ThreadPool& pool, Progress& progress);

}  // namespace nibble
