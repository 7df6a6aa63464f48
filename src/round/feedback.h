// The arithmetic of error feedback, in the form that is compiled once per instruction set: plain
// structs and raw pointers (see round/search.h). Arrays of a strip are [columns][kStripRows] and
// 64-byte aligned, u and h [columns][columns].
#pragma once

#include <stdint.h>

#include "round/search.h"

namespace nibble {

struct Feedback {
  const char* isa;

  /// values[block][kStripRows]: what will be read back.
  void (*decode)(const SearchSpec* spec, const SearchResult* block, float* values);

  /// Rounds the columns of one block in turn, on the scales that `block` has, and lets the later
  /// columns of the block make up for each error: e_j = (x_j - q_j) / u_jj, x_k -= e_j u_jk for
  /// k > j. u: the block's rows and columns of the upper factor. Fills the block's codes and
  /// errors[block][kStripRows].
  void (*round)(const SearchSpec* spec, const float* u, float* x, SearchResult* block,
                float* errors);

  /// x_k -= sum_j errors_j m_jk for the columns k in [0, width) and j in [0, count), of
  /// m[count][width].
  void (*spread)(const float* m, int width, int64_t count, const float* errors, float* x);

  /// One round of coordinate descent on the codes, then on the scales, of one block, for the loss
  /// r H r of a row's errors r = w - q: never raises it. h: the block's rows and columns of H, with
  /// a positive diagonal; g: the block's columns of r H, kept up. Writes what each q_j grew by to
  /// changes[block][kStripRows]. False if nothing changed.
  bool (*refine)(const SearchSpec* spec, const float* h, float* g, SearchResult* block,
                 float* changes);
};

}  // namespace nibble
