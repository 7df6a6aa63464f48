// Where tensors go. A writer is told everything first, then receives the bytes tensor by tensor.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "container/metadata.h"
#include "container/source.h"

namespace nibble {

struct WriteOptions {
  std::uint64_t split_bytes = 0;  // start a new file before this many bytes of tensors; 0: one file
  bool resume = false;            // keep what leave() or a crash has left
};

/// What a tensor has beside its bytes, as in TensorInfo.
struct TensorAttributes {
  ColumnOrder order = nullptr;
  InputRounding inputs = {};
};

/// Writes one model. Nothing appears under a final name before finish(); destruction without it
/// removes what was written, unless leave() was called. Tensors may come in any order, and each in
/// several pieces.
class Writer {
 public:
  virtual ~Writer() = default;
  virtual Status write(std::size_t index,
                       std::span<const std::byte> bytes) = 0;  // appends to tensor `index`
  /// Reads back a whole tensor that an earlier run has written. Errors: the file ends before it.
  virtual Status read_back(std::size_t index, std::span<std::byte> bytes) = 0;
  /// Said before write() or found by read_back(), where the container can keep it.
  virtual void set_attributes(std::size_t, const TensorAttributes&) {}
  virtual TensorAttributes attributes(std::size_t) const { return {}; }
  /// Takes such a tensor as written.
  virtual void keep(std::size_t index) = 0;
  virtual void leave() = 0;
  /// Everything written and flushed: gives the files their names. Returns them.
  virtual Result<std::vector<std::string>> finish() = 0;
};

class GgufWriter : public Writer {
 public:
  /// Exchanges the metadata for one of the same encoded size (hashes that are known only at the
  /// end).
  virtual Status replace(const Metadata& metadata) = 0;
  /// Where the files are until finish(), to be read back and verified.
  virtual std::vector<std::string> parts() const = 0;
};

/// GGUF v3. Shapes as in TensorInfo (outermost first); the alignment is general.alignment or 32.
/// Split files are named `name-00001-of-0000N.gguf` from `name.gguf`.
Result<std::unique_ptr<GgufWriter>> create_gguf(const std::string& path, const Metadata& metadata,
                                                const std::vector<TensorInfo>& tensors,
                                                const WriteOptions& options = {});

/// Bytes of the files that create_gguf would make, all parts together.
Result<std::uint64_t> gguf_bytes(const Metadata& metadata, const std::vector<TensorInfo>& tensors,
                                 const WriteOptions& options = {});

/// An error if `path`, or parts of a split that would be named after it, exist already.
Status check_not_there(const std::string& path);

}  // namespace nibble
