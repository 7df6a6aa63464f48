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
  TensorInfo info;      // Hugging Face's name; what write() gets are bytes of its format
  bool packed = false;  // spread over tensors as the packing says
  std::vector<std::uint32_t> rows = {};  // row r of what is written is row rows[r] here; empty: r
};

struct HfDirectory {
  std::string source;  // a Hugging Face directory, for all that is no tensor
  std::vector<HfTensor> tensors;
  const Packing* packing = nullptr;
  std::vector<std::string> kept = {};  // linear layers that are not packed
  std::string card = {};               // README.md; may be replaced until finish()
};

/// The directory gets its name when it is complete: until then it is `path`.part. Shards hold
/// options.split_bytes at most (0: 5 GB). One that is there already is replaced by finish().
class HfWriter : public Writer {
 public:
  virtual void set_card(std::string card) = 0;
};
Result<std::unique_ptr<HfWriter>> create_hf(const std::string& path, const HfDirectory& directory,
                                            const WriteOptions& options = {});

/// Bytes of the safetensors files that create_hf would make.
Result<std::uint64_t> hf_bytes(const HfDirectory& directory, const WriteOptions& options = {});

}  // namespace nibble
