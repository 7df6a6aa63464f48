// The way every rounder without error feedback takes through a matrix: strips of rows, block by
// block.
#pragma once

#include <span>

#include "round/rounder.h"
#include "round/search.h"

namespace nibble {

/// Rounds `task` so that sum_j importance_j (w_j - q_j)^2 is small in every block. `importance` has
/// task.columns entries, finite and not negative. Errors: a weight that is not finite or too large
/// for the format; NIBBLE_ISA naming what is not there.
Result<RoundReport> round_rows(const RoundTask& task, std::span<const float> importance,
                               ThreadPool& pool);

/// What the search needs to know of a quantized format.
SearchSpec search_spec(const Format& format);

std::span<const BlockSearch* const> search_registry();

}  // namespace nibble
