// The way every rounder takes through a matrix: strips of rows, whose scales and codes a
// StripMethod chooses; packing them, and the errors of what was written, are the same for all.
#pragma once

#include <memory>
#include <new>
#include <span>
#include <vector>

#include "round/rounder.h"
#include "round/search.h"

namespace nibble {

/// A strip of at most kStripRows rows of a matrix.
struct Strip {
  const float* rows;  // [count][columns], finite
  int count;
  std::int64_t columns;

  /// Columns [begin, end) transposed: out[(end - begin)][kStripRows], within +-kLargestWeight.
  /// Lanes beyond `count` repeat the last row.
  void gather(std::int64_t begin, std::int64_t end, float* out) const;
};

// Beyond what any format can store: keeps the sums of the searches finite.
inline constexpr float kLargestWeight = 1e9f;

/// Aligned to 64 bytes.
struct AlignedDelete {
  void operator()(float* p) const { ::operator delete[](p, std::align_val_t(64)); }
};
using AlignedFloats = std::unique_ptr<float[], AlignedDelete>;
AlignedFloats aligned_floats(std::size_t count);

/// Where a method hands over the blocks it has decided.
class StripSink {
 public:
  virtual ~StripSink() = default;
  virtual void put(std::int64_t block, const SearchResult& found) = 0;
};

/// Chooses scales and codes for one quantized format.
class StripMethod {
 public:
  virtual ~StripMethod() = default;
  /// Memory of one thread, whatever the method needs.
  struct Scratch {
    virtual ~Scratch() = default;
  };
  virtual std::unique_ptr<Scratch> scratch() const = 0;
  /// Hands every block of the strip to `sink` once, in any order. Called from many threads.
  virtual void choose(const Strip& strip, Scratch& scratch, StripSink& sink) const = 0;
};

/// Rounds `task` with `method` (not used for formats without scales, whose codes are the values).
/// `importance` weighs the reported errors: task.columns entries. Errors: a weight that is not
/// finite or too large for the format.
Result<RoundReport> round_strips(const RoundTask& task, std::span<const float> importance,
                                 const StripMethod* method, ThreadPool& pool);

/// Rounds `task` so that sum_j importance_j (w_j - q_j)^2 is small in every block; `favour_large`:
/// an error counts more on larger weights, as it should where nothing is known of the inputs.
/// Errors: those of round_strips and check_importance.
Result<RoundReport> round_rows(const RoundTask& task, std::span<const float> importance,
                               ThreadPool& pool, bool favour_large = false);

/// One entry a column, finite and not negative.
Status check_importance(const RoundTask& task, std::span<const float> importance);

/// Each block's importance around 1: the search takes only ratios within a block.
std::vector<float> normalised(std::span<const float> importance, std::int64_t block);

/// What the search needs to know of a quantized format: points into it.
SearchSpec search_spec(const Format& format);

/// The nearest value to x that the format can store as a scale (or offset); of powers of two the
/// next greater one.
float stored_number(const SearchSpec& spec, float x);

std::span<const BlockSearch* const> search_registry();
/// The search for a format on the instruction set in use. Errors: NIBBLE_ISA naming what is not
/// there.
Result<const BlockSearch*> active_search(const SearchSpec& spec);

}  // namespace nibble
