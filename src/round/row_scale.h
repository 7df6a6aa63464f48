// Scales that all columns of a row share.
#pragma once

#include <cstdint>

#include "round/search.h"

namespace nibble {

class RowScale {
 public:
  /// `spec`: of a format with whole_row. Keeps references.
  RowScale(const SearchSpec& spec, const BlockSearch& search) : spec_(spec), search_(search) {}

  /// Minimises sum_j h_j (x_j - q_j)^2 over all columns of each of the rows: fills d and dmin.
  /// x: [columns][kStripRows], finite, 64-byte aligned; h: [columns], positive, around 1.
  void fit(const float* x, const float* h, std::int64_t columns, SearchResult& found) const;

  /// Codes of one block under the scales of `found`.
  void emit(const float* x, const float* h, SearchResult& found) const;

 private:
  const SearchSpec& spec_;
  const BlockSearch& search_;
};

}  // namespace nibble
