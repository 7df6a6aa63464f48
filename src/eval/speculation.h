// How much guessing saves on a text.
#pragma once

#include "arch/arch.h"
#include "graph/runtime.h"
#include "nibble/benchmark.h"

namespace nibble {

/// Answers the first tokens of options.text greedily, without guesses and with them, in turn.
/// Errors: a text that is too short, an answer that ends at once, a draft model that does not fit.
Result<MeasuredSpeculation> measure_speculation(const BenchmarkOptions& options, const Model& model,
                                                Runtime& runtime, Progress& progress);

}  // namespace nibble
