// What each matrix of a model would lose in each format.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "plan/budget.h"
#include "quantize/checkpoint.h"
#include "quantize/feedback.h"
#include "quantize/journal.h"
#include "quantize/judge.h"
#include "round/rounder.h"

namespace nibble {

/// Losses are second-order estimates: the KL divergence of the model's predictions is measured once
/// with each matrix alone rounded, to the candidate whose size is nearest to `bits` a weight; it
/// grows in proportion to the mean squared error of the matrix's outputs, which is compared between
/// formats on some of its rows.
class Sensitivity {
 public:
  struct Matrix {
    std::size_t index;  // of the tensor in the checkpoint
    std::vector<const Format*> formats;
  };
  Sensitivity(const Checkpoint& checkpoint, const Rounder& rounder,
              std::function<std::span<const float>(const TensorInfo&)> importance,
              FeedbackSource* feedback, Judge& judge, Journal* journal, ThreadPool& pool)
      : checkpoint_(checkpoint),
        rounder_(rounder),
        importance_(std::move(importance)),
        feedback_(feedback),
        judge_(judge),
        journal_(journal),
        pool_(pool) {}

  /// Matrices in the order of their blocks. One Candidates each.
  Result<std::vector<Candidates>> measure(const std::vector<Matrix>& matrices, double bits,
                                          Progress& progress);
  /// How much more all matrices together lose than the sum of them, with the choices of
  /// `assignment` rounded without error feedback. Leaves the judge's model so.
  Result<double> excess(const Assignment& assignment, Progress& progress);

 private:
  /// The error of a matrix's outputs in a format, in units of its own: only ratios matter.
  struct FormatError {
    double alone = 0;  // without error feedback
    double error = 0;  // as it will be rounded
  };
  struct Measured {
    Matrix matrix;
    std::vector<float> mean_square;  // of its inputs; empty: unknown
    std::vector<FormatError> errors;
    double slope = 0;  // divergence by error
  };
  static Json to_json(const Measured& measured);
  static Result<Measured> from_json(const Json& json, const Matrix& matrix);
  bool is_known(const Matrix& matrix) const;
  /// Goes to the block of a matrix; of blocks where everything is known no moments are taken.
  Status enter(const std::vector<Matrix>& matrices, const Matrix& matrix, const Progress& progress);
  Result<Measured> measure(const Matrix& matrix, double bits);
  RoundTask task(const TensorInfo& tensor, std::size_t index, const Format& format) const;
  Result<FormatError> error(const TensorInfo& tensor, RoundTask task);
  Result<RoundReport> round(RoundTask task) const;
  Status put(const Measured& measured, const Format& format);

  const Checkpoint& checkpoint_;
  const Rounder& rounder_;
  std::function<std::span<const float>(const TensorInfo&)>
      importance_;            // by column; empty: unknown
  FeedbackSource* feedback_;  // null: there is none
  Judge& judge_;
  Journal* journal_;  // of what is measured; null: none
  ThreadPool& pool_;
  std::vector<Measured> measured_;
};

}  // namespace nibble
