// What is measured several times.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "eval/metrics.h"
#include "nibble/benchmark.h"

namespace nibble {

/// At least one value.
inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return quantile(values, 0.5);
}

/// The rate of rounds in tokens a second.
inline MeasuredRate rate_of(std::vector<double> rounds) {
  MeasuredRate out;
  out.tokens_per_second = median(rounds);
  out.rounds = std::move(rounds);
  return out;
}

}  // namespace nibble
