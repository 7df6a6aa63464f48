// What a checkpoint that was written lost against its source.
#pragma once

#include <string>

#include "nibble/quantize.h"
#include "quantize/job.h"

namespace nibble {

/// On windows of the calibration text that no rounding was fitted to, or of text that the model
/// writes itself if none was given. Error: why the models cannot be run here.
Result<QualityReport> measure_quality(const Job& job, const QuantizeOptions& options,
                                      const std::string& path, Progress& progress);

}  // namespace nibble
