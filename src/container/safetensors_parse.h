// The header of one .safetensors file, validated against the file's size.
//
//   u64 length of the header | header, JSON: {"name": {"dtype", "shape", "data_offsets"}, ...}
//   | tensor data without gaps; offsets count from its start
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "container/raw_tensor.h"

namespace nibble {

/// The tensors in the order of their data. `file` is the whole file, which they refer to. Errors
/// name the field, not the file.
Result<std::vector<RawTensor>> parse_safetensors(std::span<const std::byte> file);

}  // namespace nibble
