// The header of one .safetensors file, validated against the file's size.
//
//   u64 length of the header | header, JSON: {"name": {"dtype", "shape", "data_offsets"}, ...}
//   | tensor data without gaps; offsets count from its start
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "container/source.h"

namespace nibble {

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;     // in the order of their data
  std::vector<std::uint64_t> offsets;  // of each tensor, from the start of the file
};

/// `file` is the whole file. Errors name the field, not the file.
Result<SafetensorsHeader> parse_safetensors(std::span<const std::byte> file);

}  // namespace nibble
