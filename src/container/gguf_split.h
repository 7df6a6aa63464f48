// Names and metadata keys of split GGUF files, as llama.cpp's tools have them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace nibble {

inline constexpr char kSplitNo[] = "split.no";                  // u16, from 0
inline constexpr char kSplitCount[] = "split.count";            // u16
inline constexpr char kSplitTensors[] = "split.tensors.count";  // i32, of all parts

struct SplitName {
  std::string prefix;  // with its directory
  std::uint64_t count;
};

/// From "dir/name-00002-of-00003.gguf": {"dir/name", 3}.
std::optional<SplitName> parse_split_name(const std::string& path);
/// "dir/name-00002-of-00003.gguf" for ("dir/name", 1, 3).
std::string split_name(const std::string& prefix, std::uint64_t index, std::uint64_t count);

}  // namespace nibble
