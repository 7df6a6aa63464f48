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

/// How inputs x, made by blocks that are quantized, lie apart from those x + d of the
/// full-precision model.
struct Drift {
  SecondMoment train, held_out;  // E[d x^T], not symmetric; on the windows held out
  SecondMoment square;           // E[d d^T] on the windows held out
};

/// How a second moment is made safe: values of few tokens overfit, and dead columns make it
/// singular.
struct Regularization {
  double shrinkage = 0.2;  // share of the off-diagonal that is dropped
  double damping = 0.01;   // of the mean of the diagonal, added to it
};

/// A square matrix, `width` columns at a time: panels [rows][width] that lie behind each other, as
/// error feedback reads them. Of an upper triangle a panel has only the rows down to the diagonal.
class ColumnPanels {
 public:
  ColumnPanels() = default;
  ColumnPanels(std::int64_t size, int width, bool upper)
      : size_(size), width_(width), upper_(upper), values_(std::size_t(begin(size / width))) {}

  int width() const { return width_; }
  std::int64_t rows(std::int64_t panel) const { return upper_ ? (panel + 1) * width_ : size_; }
  float* panel(std::int64_t p) { return values_.data() + begin(p); }
  const float* panel(std::int64_t p) const { return values_.data() + begin(p); }
  float at(std::int64_t i, std::int64_t j) const {
    const std::int64_t p = j / width_;
    return i < rows(p) ? panel(p)[i * width_ + j % width_] : 0;
  }
  bool operator==(const ColumnPanels&) const = default;

 private:
  std::int64_t begin(std::int64_t p) const {
    return width_ * (upper_ ? width_ * (p * (p + 1) / 2) : p * size_);
  }

  std::int64_t size_ = 0;
  int width_ = 1;
  bool upper_ = false;
  std::vector<float> values_;
};

/// Blocks of columns in the order in which they are rounded, those that matter most first
/// (act-order, by blocks, since a block's columns share its scales); and for the columns in that
/// order the regularized H = V V^T, V upper triangular, and of V what feedback needs: the inverses
/// of its diagonal blocks, and above these V times the inverse of the block below.
struct FeedbackFactor {
  std::vector<std::int64_t> order;
  ColumnPanels h, u;
};

/// The same for every number of threads. Errors: values that are not finite, or so unbalanced that
/// even more damping leaves H singular. `columns` must be a multiple of `block`.
Result<FeedbackFactor> factorize(const SecondMoment& moment, int block,
                                 const Regularization& regularization, ThreadPool& pool);

/// E[d x^T] H^-1, H as `factor` of `moment` has it: [columns][columns]. Row w times it is what
/// makes w x nearest to w (x + d). Empty: H is singular. The same for every number of threads.
std::vector<float> drift_correction(const SecondMoment& moment, const SecondMoment& cross,
                                    const FeedbackFactor& factor, ThreadPool& pool);

/// sum over rows of e H e^T, of errors [rows][columns]: the mean squared error of the outputs,
/// summed over them.
double output_error(const SecondMoment& moment, const float* errors, std::int64_t rows);

/// The same, against the outputs w (x + d) of the full-precision model, of weights w + e on x.
double output_error(const SecondMoment& moment, const Drift& drift, const float* weights,
                    const float* errors, std::int64_t rows);

}  // namespace nibble
