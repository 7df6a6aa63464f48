// Importance matrices: the mean square of every input of a linear layer, as llama.cpp's tools
// exchange them. Two forms are read:
//   GGUF: general.type = "imatrix"; F32 tensors <tensor>.in_sum2 [matrices, inputs], the sums of
//         squares, and <tensor>.counts [matrices, 1]; imatrix.datasets, .chunk_count, .chunk_size
//   .dat: i32 n, then n times: i32 length, name, i32 calls, i32 values, f32[values] (mean * calls);
//         optionally i32 chunks, then i32 length, dataset
// The GGUF form is written.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace nibble {

struct ImatrixEntry {
  /// [matrices, inputs], finite and not negative. A matrix (an expert) that saw nothing has ones.
  std::vector<float> mean_square;
  std::vector<float> count;  // of each matrix: rows of activations seen (.dat: calls)
};

struct Imatrix {
  std::map<std::string, ImatrixEntry, std::less<>> entries;  // by the name of the tensor in GGUF
  std::uint64_t chunk_count = 0;
  std::uint64_t chunk_size = 0;  // tokens; 0 if unknown (.dat)
  std::vector<std::string> datasets;

  const ImatrixEntry* find(std::string_view tensor) const;
};

/// Either form, from memory. Errors name the entry.
Result<Imatrix> parse_imatrix(std::span<const std::byte> file);
Result<Imatrix> read_imatrix(const std::string& path);
/// The GGUF form. Appears under its name only when complete.
Status write_imatrix(const std::string& path, const Imatrix& imatrix);

/// True if `path` names an importance matrix rather than a text: a GGUF file, or *.dat, *.imatrix.
bool is_imatrix(const std::string& path);

}  // namespace nibble
