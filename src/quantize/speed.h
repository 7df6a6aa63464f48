// What OpenBLAS reaches on this machine, for estimates and to compare with.
#pragma once

#include <cstdint>

#include "base/threads.h"

namespace nibble {

/// Multiplications and additions a second of float32 products [rows x inner] [inner x columns], of
/// all threads of the pool together, each on rows of its own.
double product_flops(ThreadPool& pool, std::int64_t rows, std::int64_t columns, std::int64_t inner);

/// The same of one thread that factorizes a positive definite matrix of n columns in float64.
double cholesky_flops(std::int64_t n);

}  // namespace nibble
