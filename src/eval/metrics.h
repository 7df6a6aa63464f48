// Numbers of one prediction, and their statistics over a text.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "nibble/evaluate.h"

namespace nibble {

/// Natural logarithm of the sum of exp(x_i), computed around the maximum.
double log_sum_exp(std::span<const float> x);

/// Index of the greatest value; the first of equal ones.
std::uint32_t argmax(std::span<const float> x);

/// -ln of the probability of `next`.
double negative_log_likelihood(std::span<const float> logits, std::uint32_t next);

struct Comparison {
  double nll, reference_nll;  // of the next token
  double kld;                 // KL(reference || model), never below zero
  bool same_top;
};

/// Both sets of logits are of the same size, `next` inside it.
Comparison compare_logits(std::span<const float> logits, std::span<const float> reference,
                          std::uint32_t next);

/// Mean and standard error of the mean (n - 1 in the variance).
Measured mean_of(std::span<const double> values);

/// The value below which the share q of the values lies, interpolated between neighbours. `sorted`
/// is ascending.
double quantile(std::span<const double> sorted, double q);

/// exp of a mean, with the standard error carried through (delta method).
Measured exp_of(const Measured& mean);

}  // namespace nibble
