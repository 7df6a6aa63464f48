// A part of a matrix that stands for the whole of it where errors are only compared.
#pragma once

#include <vector>

#include "round/rounder.h"

namespace nibble {

/// Some strips of a matrix, evenly spread, as a task of their own.
class Sample {
 public:
  explicit Sample(const RoundTask& whole);
  Sample(const Sample&) = delete;
  Sample& operator=(const Sample&) = delete;

  /// The error on `moment` of what was written last.
  double error(const SecondMoment& moment) const;

  RoundTask task;

 private:
  std::vector<float> weights_;
  std::vector<std::byte> bytes_;
};

}  // namespace nibble
