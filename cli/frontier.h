// Size against quality, as a table and as a drawing.
#pragma once

#include <string>

#include "nibble/quantize.h"

namespace nibble::cli {

/// A line for each of some sizes along the frontier; the choice that was made is marked.
void print_frontier(const QuantizeReport& report);

/// The same as an SVG document: bits per weight to the right, KL divergence upwards on a
/// logarithmic scale.
std::string frontier_svg(const QuantizeReport& report);

}  // namespace nibble::cli
