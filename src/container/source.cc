#include "container/source.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/checked.h"
#include "base/file.h"
#include "container/container.h"

namespace nibble {

std::uint64_t TensorInfo::elements() const {
  std::uint64_t n = 1;
  for (const std::uint64_t extent : shape) n *= extent;
  return n;
}

Result<std::uint64_t> stored_bytes(const Format& format, const std::vector<std::uint64_t>& shape) {
  constexpr std::uint64_t kLargest = std::uint64_t(1) << 63;
  const std::uint64_t columns = shape.empty() ? 1 : shape.back();
  std::uint64_t elements = 1;
  for (const std::uint64_t extent : shape) {
    if (extent == 0) return fail(ErrorCode::corrupt, "shape: a dimension is 0");
    NIBBLE_TRY_IN("shape", elements, checked_mul(elements, extent));
  }
  const auto block = std::uint64_t(format.block());
  if (columns % block != 0)
    return fail(ErrorCode::corrupt, "shape: {} columns are not a multiple of {}'s block of {}",
                columns, format.id(), block);
  NIBBLE_TRY_IN("shape", const std::uint64_t bytes,
                checked_mul(elements / block, format.spec().bytes));
  if (elements >= kLargest || bytes >= kLargest)
    return fail(ErrorCode::corrupt, "shape: {} elements are too many", elements);
  return bytes;
}

void Source::read_rows(std::size_t index, std::uint64_t begin, std::uint64_t end,
                       std::byte* out) const {
  const TensorInfo& tensor = tensors()[index];
  const std::size_t row = tensor.format->row_bytes(tensor.columns());
  std::memcpy(out, data(index).data() + begin * row, (end - begin) * row);
}

std::optional<std::size_t> Source::find(std::string_view name) const {
  const auto& all = tensors();
  const auto it =
      std::find_if(all.begin(), all.end(), [&](const TensorInfo& t) { return t.name == name; });
  return it == all.end() ? std::nullopt : std::optional(std::size_t(it - all.begin()));
}

Result<std::unique_ptr<Source>> open_source(const std::string& path) {
  std::error_code ignored;
  const bool directory = std::filesystem::is_directory(path, ignored);
  std::string head;
  if (!directory) {
    NIBBLE_TRY(const MappedFile file, MappedFile::open(path));
    head.assign(reinterpret_cast<const char*>(file.bytes().data()),
                std::min<std::uint64_t>(file.size(), 16));
  }
  for (const Container* container : container_registry())
    if (container->recognises(path, directory, std::as_bytes(std::span(head))))
      return container->open(path);
  return fail(ErrorCode::unsupported,
              "{}: not a checkpoint that nibble reads; give a .gguf file, a .safetensors file or a "
              "Hugging Face directory",
              path);
}

}  // namespace nibble
