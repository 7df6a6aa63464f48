// Where the importance of columns comes from: a file, a text that the model is run on, or what the
// model writes itself.
#pragma once

#include <optional>
#include <string>

#include "arch/arch.h"
#include "container/imatrix.h"
#include "nibble/progress.h"
#include "nibble/quantize.h"

namespace nibble {

struct Importance {
  Imatrix imatrix;
  std::string name;    // of the file or text, without its folders; or "self-written"
  std::string sha256;  // of the file, or of the text that was fed
};

/// Does this run need any? True where the user gave a file or text, or the rounding asks for it.
bool wants_importance(const QuantizeOptions& options, bool rounding_needs_it);

/// Reads the importance matrix, or runs the source model over the text (or over text of its own
/// where none is given).
/// `rewritten`: the source model as transforms have left it, to be run in its place; null: as it
/// is.
Result<Importance> find_importance(const QuantizeOptions& options, const Model* rewritten,
                                   Progress& progress);

}  // namespace nibble
