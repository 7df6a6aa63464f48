// A part of a matrix that stands for the whole of it where errors are only compared.
#pragma once

#include <span>
#include <vector>

#include "round/rounder.h"

namespace nibble {

/// Some strips of a matrix, evenly spread, as a task of their own.
class MatrixSample {
 public:
  explicit MatrixSample(const RoundTask& whole);
  MatrixSample(const MatrixSample&) = delete;
  MatrixSample& operator=(const MatrixSample&) = delete;

  /// The error on `moment` of what was written last. `scales`: the inputs are those of `moment`,
  /// divided by them; empty: by 1.
  double error(const SecondMoment& moment, std::span<const float> scales = {}) const;
  /// Against the outputs of the full-precision model, whose inputs are others.
  double error(const SecondMoment& moment, const Drift& drift) const;

  RoundTask task;

 private:
  std::vector<float> errors() const;

  std::vector<float> weights_;
  std::vector<std::byte> bytes_;
};

}  // namespace nibble
