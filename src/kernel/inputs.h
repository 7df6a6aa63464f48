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

/// The integers of InputRounding::int8 as kernels take them (InputView), with the scale of a token
/// for each of its 32 columns; a token with NaN or an infinity has the scale NaN. `columns` must be
/// a multiple of 32.
void round_to_integers(const InputRounding& rounding, const float* values, std::int64_t tokens,
                       std::int64_t columns, std::int8_t* codes, float* scales,
                       std::int32_t* code_sums, ThreadPool& pool);

}  // namespace nibble
