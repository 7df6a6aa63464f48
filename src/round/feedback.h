// The arithmetic of error feedback, in the form that is compiled once per instruction set: plain
// structs and raw pointers (see round/search.h). Arrays of a strip are [columns][kStripRows] and
// 64-byte aligned, u and h [columns][columns].
#pragma once

#include <stdint.h>

#include "round/search.h"

namespace nibble {

/// What the error of a column grew by.
struct Change {
  int32_t column;
  float by;
};

/// Those of one row.
struct Changes {
  const Change* first;
  int64_t count;
};

struct Feedback {
  const char* isa;

  /// Rounds the columns of one block in turn, on the scales that `block` has, and lets the later
  /// columns of the block make up for each error: e_j = (x_j - q_j) / u_jj, x_k -= e_j u_jk for
  /// k > j. u: the block's rows and columns of the factor; x: the weights as compensated so far;
  /// errors[block][kStripRows]: the weights, which become w - q. Fills the block's codes, and g
  /// with e U^-T, the gradient of sum_j e_j^2.
  void (*round)(const SearchSpec* spec, const float* u, float* x, SearchResult* block,
                float* errors, float* g);

  /// x_k += sum_j errors_j m_jk for the columns k in [0, width) and j in [0, count), of
  /// m[count][width].
  void (*spread)(const float* m, int width, int64_t count, const float* errors, float* x);

  /// x_j += sum_k errors_k m_jk, likewise: the product with m transposed.
  void (*spread_back)(const float* m, int width, int64_t count, const float* errors, float* x);

  /// As spread, for the few changes of each row: x_k += sum_j by_j m_jk.
  void (*follow)(const float* m, int width, const Changes* rows, float* x);

  /// One round of coordinate descent on the codes of one block, and on its scales if `scales`, for
  /// the loss r H r of a row's errors r = w - q: never raises it. h: the block's rows and columns
  /// of H, with a positive diagonal; g: the block's columns of r H, kept up. Writes what each r_j
  /// grew by to changes[block][kStripRows]. False if nothing changed.
  bool (*refine)(const SearchSpec* spec, const float* h, bool scales, float* g, SearchResult* block,
                 float* changes);
};

}  // namespace nibble
