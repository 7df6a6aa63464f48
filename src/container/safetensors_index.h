// The index of a checkpoint in several .safetensors files.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace nibble {

inline constexpr char kSafetensorsIndex[] = "model.safetensors.index.json";

/// Tensor names, each with the file that holds it, a plain name next to the index.
using SafetensorsIndex = std::vector<std::pair<std::string, std::string>>;

Result<SafetensorsIndex> parse_safetensors_index(std::string_view json);
Result<SafetensorsIndex> read_safetensors_index(const std::string& path);

}  // namespace nibble
