// What the sources that map whole files have in common.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "container/source.h"

namespace nibble {

class MappedSource : public Source {
 public:
  const std::string& path() const override { return path_; }
  std::vector<std::string> files() const override;
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  std::span<const std::byte> data(std::size_t index) const override;
  void release(std::size_t index, std::uint64_t offset, std::uint64_t length) const override;

 protected:
  explicit MappedSource(std::string path) : path_(std::move(path)) {}

  /// Tensors of one file; `offsets` count from its start and were checked against its size.
  void add(MappedFile file, std::vector<TensorInfo> tensors,
           const std::vector<std::uint64_t>& offsets);
  /// An error if a name occurs in two files.
  Status check_unique() const;

 private:
  struct Place {
    std::size_t file;
    std::uint64_t offset;
  };
  std::string path_;
  std::vector<MappedFile> files_;
  std::vector<TensorInfo> tensors_;
  std::vector<Place> places_;
};

}  // namespace nibble
