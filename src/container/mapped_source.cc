#include "container/mapped_source.h"

#include <algorithm>

#include "base/utf8.h"

namespace nibble {

std::vector<std::string> MappedSource::files() const {
  std::vector<std::string> paths;
  for (const MappedFile& file : files_) paths.push_back(file.path());
  return paths;
}

std::span<const std::byte> MappedSource::data(std::size_t index) const {
  const Place& place = places_[index];
  return files_[place.file].bytes().subspan(place.offset, tensors_[index].bytes);
}

void MappedSource::release(std::size_t index, std::uint64_t offset, std::uint64_t length) const {
  const std::uint64_t bytes = tensors_[index].bytes;
  if (offset >= bytes) return;
  const Place& place = places_[index];
  files_[place.file].release(place.offset + offset, std::min(length, bytes - offset));
}

void MappedSource::add(MappedFile file, std::vector<TensorInfo> tensors,
                       const std::vector<std::uint64_t>& offsets) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    places_.push_back({files_.size(), offsets[i]});
    tensors_.push_back(std::move(tensors[i]));
  }
  files_.push_back(std::move(file));
}

Status MappedSource::check_unique() const {
  std::vector<std::string_view> names;
  names.reserve(tensors_.size());
  for (const TensorInfo& tensor : tensors_) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice == names.end()) return {};
  return fail(ErrorCode::corrupt, "tensor {} occurs twice", quote(*twice));
}

}  // namespace nibble
