// What calibration knows of how the inputs of a linear layer move together, and the factor that
// error feedback needs of it.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "base/threads.h"

namespace nibble {

/// E[x x^T] over `count` tokens: [columns][columns] row-major, symmetric.
struct SecondMoment {
  std::int64_t columns = 0;
  std::uint64_t count = 0;
  std::vector<float> values;
  std::vector<float> largest = {};  // |x_j| of any token; empty: not known

  float mean_square(std::int64_t j) const { return values[std::size_t(j * (columns + 1))]; }
};

/// How a second moment is made safe: values of few tokens overfit, and dead columns make it
/// singular.
struct Regularization {
  double shrinkage = 0.2;  // share of the off-diagonal that is dropped
  double damping = 0.01;   // of the mean of the diagonal, added to it
};

/// Blocks of columns in the order in which they are rounded, those that matter most first
/// (act-order, by blocks, since a block's columns share its scales); and for the columns in that
/// order the regularized H and the upper triangular U with H^-1 = U^T U.
struct FeedbackFactor {
  std::vector<std::int64_t> order;
  std::vector<float> h, u;
};

/// The same for every number of threads. Errors: values that are not finite, or so unbalanced that
/// even more damping leaves H singular. `columns` must be a multiple of `block`.
Result<FeedbackFactor> factorize(const SecondMoment& moment, int block,
                                 const Regularization& regularization, ThreadPool& pool);

/// sum over rows of e H e^T, of errors [rows][columns]: the mean squared error of the outputs,
/// summed over them.
double output_error(const SecondMoment& moment, const float* errors, std::int64_t rows);

}  // namespace nibble
