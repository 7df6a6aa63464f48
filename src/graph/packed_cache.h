// Packed weights of models, kept in files that later loads map.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "arch/arch.h"
#include "base/file.h"
#include "kernel/matrix.h"

namespace nibble {

/// The packed matrices of one model, in a file of their own: mapped if there is one that is of the
/// model as it is now and of this program's packing, else written from what a load packs.
///
/// A file: kPage bytes with a mark, the SHA-256 of all that the rest depends on (64 hexadecimal
/// digits) and zeros; then Matrix::storage() of each matrix whose values are stored ones, in the
/// order of the model's weights, each from a multiple of kPage on. Numbers are as the processor has
/// them. What is older or damaged in these places is written anew; numbers are not checked.
class PackedCache {
 public:
  static constexpr std::uint64_t kPage = 4096;

  /// `directory` is made if it is not there. The model must outlive what is returned. Errors:
  /// nothing can be written there, or not as much; another program writes the same file.
  static Result<PackedCache> open(const std::string& directory, const Model& model);

  bool writes() const { return written_.has_value(); }
  std::uint64_t size() const { return size_; }  // bytes of the file

  /// A matrix of the mapped file, or nothing: it has to be packed.
  Result<std::optional<Matrix>> find(std::size_t weight) const;
  /// Takes a matrix into the file, where one is being written and the matrix has a place in it.
  Status keep(std::size_t weight, const Matrix& matrix);
  /// The file is complete, where one is being written.
  Status commit();

 private:
  explicit PackedCache(const Model& model);
  bool has(std::size_t weight) const { return places_[weight] != 0; }

  const Model* model_;
  std::vector<std::uint64_t> places_;  // of weights in the file; 0: none
  std::uint64_t size_ = kPage;         // of the file
  std::shared_ptr<const MappedFile> mapped_;
  std::optional<OutputFile> written_;
};

}  // namespace nibble
