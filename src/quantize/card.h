// README.md of a checkpoint: what it is, how it was made and what that cost.
#pragma once

#include <string>

#include "quantize/job.h"

namespace nibble {

/// `report` as far as it is known when the tensors are written. job.metadata are final.
std::string model_card(const Job& job, const QuantizeOptions& options,
                       const QuantizeReport& report);

}  // namespace nibble
