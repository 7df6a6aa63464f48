// The recipe where the user names none: the best one whose cost is reasonable here.
#pragma once

#include <string>

#include "nibble/quantize.h"

namespace nibble {

struct UsualRecipe {
  std::string recipe;  // without its target
  std::string reason;  // in words for the user, with the time that it is expected to take
};

/// Error feedback where the model can be run on a text (of its own, if there is none) within
/// kReasonableSeconds, with AWQ scaling before it for a GGUF whose source is not
/// quantized; else, or with options.fast, importance rounding on the same terms; else nearest
/// rounding.
UsualRecipe usual_recipe(const QuantizeOptions& options);

inline constexpr double kReasonableSeconds = 3600;

}  // namespace nibble
