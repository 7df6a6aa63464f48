// HOW the codes of a weight matrix are chosen inside a format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "base/result.h"
#include "base/threads.h"
#include "format/format.h"
#include "round/second_moment.h"

namespace nibble {

/// What calibration knows of the inputs of one linear layer (n_in columns).
struct LayerStats {
  std::span<const float> mean_square;  // E[x_j^2], the importance of column j; empty: unknown
  std::uint64_t count = 0;             // tokens seen
  /// For blocks of the task's format; null: how columns move together is unknown.
  const FeedbackFactor* factor = nullptr;
  /// drift_correction() of the inputs, [columns][columns], and the part of it that is made; null:
  /// none.
  const float* correction = nullptr;
  float strength = 0;
};

/// A whole weight matrix to be rounded, row by row. Rows are produced on demand, so that no more
/// than a panel of them is ever held in floating point.
struct RoundTask {
  std::int64_t rows = 0, columns = 0;  // columns: a multiple of format->block()
  const Format* format = nullptr;
  LayerStats stats;
  /// Writes rows [begin, end) as float32 into `out`; called from many threads.
  std::function<void(std::int64_t begin, std::int64_t end, float* out)> load;
  /// rows * format->row_bytes(columns) bytes.
  std::span<std::byte> out;
};

/// Squared errors summed over the matrix, of the bytes that were written.
struct RoundReport {
  double squared_error = 0;  // sum (w - q)^2
  double weighted_error =
      0;  // sum mean_square_j (w - q)^2; equal to squared_error without statistics
  double squared_weight = 0;  // sum w^2
};

class Rounder {
 public:
  virtual ~Rounder() = default;
  virtual std::string_view id() const = 0;  // "nearest", "importance"
  virtual bool needs_stats() const = 0;
  virtual bool needs_moments() const { return false; }    // makes use of LayerStats::factor
  virtual bool needs_reference() const { return false; }  // makes use of LayerStats::correction
  virtual bool can(const Format&) const { return true; }  // round into this format
  /// Results are bit-identical for every thread count and every instruction set. Errors name the
  /// row and column of a weight that is not finite or that the format cannot hold.
  virtual Result<RoundReport> round(const RoundTask& task, ThreadPool& pool) const = 0;
};

std::span<const Rounder* const> round_registry();
const Rounder* find_rounder(std::string_view id);

}  // namespace nibble
