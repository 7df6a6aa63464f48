// Rounds the inputs of products as a checkpoint says (container/input_rounding.h).
#pragma once

#include <cstdint>

#include "base/threads.h"
#include "container/input_rounding.h"

namespace nibble {

/// out [tokens][columns]: the values, rounded to the nearest, ties to even, the same for every
/// number of threads. NaN stays NaN.
///
/// InputRounding::llm_int8 looks for outliers in all tokens of a call: other portions of a text can
/// have others.
void round_inputs(const InputRounding& rounding, const float* values, std::int64_t tokens,
                  std::int64_t columns, float* out, ThreadPool& pool);

}  // namespace nibble
