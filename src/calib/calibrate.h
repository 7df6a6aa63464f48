// Importance of a model's weights, in memory: what `nibble calibrate` writes and `nibble quantize`
// uses directly.
#pragma once

#include "arch/arch.h"
#include "calib/corpus.h"
#include "container/imatrix.h"
#include "nibble/calibrate.h"

namespace nibble {

struct Calibration {
  Imatrix imatrix;
  std::string dataset, dataset_sha256;
  std::uint64_t windows = 0, tokens = 0;
};

/// Loads the model and feeds it the corpus. options.output is not used.
Result<Calibration> run_calibration(const Model& model, const CalibrateOptions& options,
                                    Progress& progress = no_progress());

}  // namespace nibble
