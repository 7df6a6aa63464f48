// What the server counts, in Prometheus' text form.
#pragma once

#include <string>

#include "serve/models.h"

namespace nibble {

/// The metrics of all loaded models; a model that was unloaded begins anew.
std::string metrics_text(const ModelTable& models);

}  // namespace nibble
