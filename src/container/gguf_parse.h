// The header of one GGUF file (version 2 and 3, little-endian), validated against the file's size.
//
//   "GGUF" | u32 version | u64 n_tensors | u64 n_kv
//   n_kv times:      string key | u32 type | value          (string: u64 length, bytes)
//   n_tensors times: string name | u32 n_dims | u64 dims[n_dims], fastest first | u32 type
//                    | u64 offset
//   padding to the alignment | tensor data, each tensor padded to the alignment
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "container/metadata.h"
#include "container/source.h"

namespace nibble {

inline constexpr std::uint32_t kGgufDefaultAlignment = 32;
inline constexpr std::size_t kGgufMaxName = 63;  // bytes of a tensor name that stock tools hold
inline constexpr std::size_t kGgufMaxDims = 4;

/// Number of a value type in a file, for the index of a scalar alternative of MetaValue: the same
/// up to string (8); then 9 means "array", and u64, i64, f64 are 10 to 12.
inline constexpr std::uint32_t kGgufArray = 9;
inline constexpr std::size_t kMetaScalars = 12;  // MetaValue's arrays follow in the same order
constexpr std::uint32_t gguf_value_type(std::size_t scalar) {
  return std::uint32_t(scalar < kGgufArray ? scalar : scalar + 1);
}

struct GgufHeader {
  std::uint32_t version = 3;
  std::uint32_t alignment = kGgufDefaultAlignment;
  Metadata metadata;
  std::vector<TensorInfo> tensors;
  std::vector<std::uint64_t> offsets;  // of each tensor, from the start of the file
};

/// `file` is the whole file. Errors name the field, not the file.
Result<GgufHeader> parse_gguf(std::span<const std::byte> file);

/// "IQ2_XXS" for 16; "unknown" for numbers that were never given out.
std::string_view ggml_type_name(std::uint32_t type);

}  // namespace nibble
