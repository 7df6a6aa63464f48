// Quantized checkpoints as Hugging Face directories: safetensors, with an index where there are
// several, config.json with how they are quantized, and the other files of the source as they are.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "container/scheme.h"
#include "container/writer.h"

namespace nibble {

struct HfTensor {
  TensorInfo info;      // Hugging Face's name, empty: nothing is written; write() gets its format
  bool packed = false;  // spread over tensors as the packer says
  std::vector<std::uint32_t> rows = {};  // row r of what is written is row rows[r] here; empty: r
};

struct HfDirectory {
  std::string source;  // a Hugging Face directory, for all that is no tensor
  std::vector<HfTensor> tensors;
  const Packer* packer = nullptr;
  std::vector<std::string> kept = {};  // linear layers that are not packed
  bool untied = false;                 // the head is the embedding in the source, here it is not
};

/// The directory gets its name when it is complete. One that is there already is replaced by
/// finish(). Shards hold options.split_bytes at most (0: 5 GB).
class HfWriter : public Writer {
 public:
  /// Everything is written: completes the directory, but for its name. Returns where it is until
  /// finish(), to be opened and added to.
  virtual Result<std::string> seal() = 0;
};
Result<std::unique_ptr<HfWriter>> create_hf(const std::string& path, const HfDirectory& directory,
                                            const WriteOptions& options = {});

/// Bytes of the safetensors files that create_hf would make.
Result<std::uint64_t> hf_bytes(const HfDirectory& directory, const WriteOptions& options = {});

}  // namespace nibble
