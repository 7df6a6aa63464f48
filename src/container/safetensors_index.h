// The index of a checkpoint in several .safetensors files.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace nibble {

inline constexpr char kSafetensorsIndex[] = "model.safetensors.index.json";

/// Tensor name and the file that holds it, a plain name next to the index.
Result<std::vector<std::pair<std::string, std::string>>> read_safetensors_index(
    const std::string& path);

}  // namespace nibble
