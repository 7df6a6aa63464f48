// How the search goes through the points of a codebook (see points.h).
#pragma once

#include "format/codebook.h"
#include "round/search.h"

namespace nibble {

/// Made once for each codebook, of which there are as many as formats. Thread-safe.
const PointRuns& point_runs(const Codebook& book);

}  // namespace nibble
