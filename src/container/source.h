// Where tensors come from: a GGUF file (or its splits), a Hugging Face directory of safetensors, a
// pickle, ...
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "container/input_rounding.h"
#include "container/metadata.h"
#include "format/format.h"

namespace nibble {

/// One stored tensor. The shape is in PyTorch's order, outermost first: a matrix is {rows,
/// columns}.
struct TensorInfo {
  std::string name;
  std::vector<std::uint64_t> shape;
  const Format* format = nullptr;  // never null in a Source
  std::uint64_t bytes = 0;
  ColumnOrder order = {};
  InputRounding inputs = {};  // of the products with a matrix
  std::uint64_t elements() const;
  std::uint64_t columns() const { return shape.empty() ? 1 : shape.back(); }
  std::uint64_t rows() const { return columns() == 0 ? 0 : elements() / columns(); }
};

/// Bytes of a tensor of this shape stored in this format. Columns that are not whole blocks, a
/// dimension of 0 and sizes beyond 2^63 are errors.
Result<std::uint64_t> stored_bytes(const Format& format, const std::vector<std::uint64_t>& shape);

/// The files of a Hugging Face directory that are not tensors. Absent files are empty.
struct HfFiles {
  Json config;                 // config.json, an object
  Json generation_config;      // null if absent
  std::string tokenizer_json;  // raw text
  Json tokenizer_config;       // null if absent
  std::string chat_template;   // chat_template.jinja if present, else empty
};

/// Error: no config.json there.
Result<HfFiles> read_hf_files(const std::string& directory);

/// An opened checkpoint: everything validated (offsets, sizes, duplicates), data mapped.
/// Thread-safe after opening.
class Source {
 public:
  virtual ~Source() = default;
  virtual const std::string& path() const = 0;
  virtual std::string_view container() const = 0;  // "gguf", "safetensors"
  /// The files that hold tensors: one, or the parts of a split.
  virtual std::vector<std::string> files() const = 0;
  virtual const std::vector<TensorInfo>& tensors() const = 0;
  /// The stored bytes of tensor `index`, in its format; empty where read_rows() must unpack them.
  virtual std::span<const std::byte> data(std::size_t index) const = 0;
  /// Rows [begin, end) of a matrix in its format's bytes, columns as they are stored.
  virtual void read_rows(std::size_t index, std::uint64_t begin, std::uint64_t end,
                         std::byte* out) const;
  /// What is odd about the checkpoint, for people.
  virtual std::vector<std::string> notes() const { return {}; }
  /// Says that this part of a tensor will not be needed soon, so that resident memory stays small.
  virtual void release(std::size_t index, std::uint64_t offset, std::uint64_t length) const = 0;

  /// GGUF key-values; empty for others.
  virtual const Metadata& metadata() const = 0;
  /// Hugging Face description; nullptr for others.
  virtual const HfFiles* hf() const = 0;

  std::optional<std::size_t> find(std::string_view name) const;
};

/// Opens whatever `path` is: a .gguf file (any part of a split), a .safetensors file, a directory.
Result<std::unique_ptr<Source>> open_source(const std::string& path);

}  // namespace nibble
