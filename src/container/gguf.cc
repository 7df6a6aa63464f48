// GGUF files as a source of tensors: one file, or all parts of a split
// (name-00001-of-0000N.gguf, each with its own header; part 1 carries the metadata of the model).
#include <cstring>

#include "container/container.h"
#include "container/gguf_parse.h"
#include "container/gguf_split.h"
#include "container/mapped_source.h"

namespace nibble {
namespace {

struct Part {
  MappedFile file;
  GgufHeader header;
};

class GgufSource final : public MappedSource {
 public:
  static Result<std::unique_ptr<Source>> make(const std::string& path, std::vector<Part> parts) {
    std::unique_ptr<GgufSource> source(new GgufSource(path));
    Metadata& metadata = source->metadata_;
    metadata = std::move(parts.front().header.metadata);
    for (Part& part : parts)
      source->add(std::move(part.file), std::move(part.header.tensors), part.header.offsets);
    const std::size_t count = source->tensors().size();
    NIBBLE_TRY(const auto expected, metadata.uint_or(kSplitTensors, count));
    if (count != expected)
      return fail(ErrorCode::corrupt, "{}: {}, but the parts hold {} tensors", kSplitTensors,
                  expected, count);
    NIBBLE_DO(source->check_unique());
    for (const char* key : {kSplitNo, kSplitCount, kSplitTensors}) metadata.erase(key);
    return source;
  }

  std::string_view container() const override { return "gguf"; }
  const Metadata& metadata() const override { return metadata_; }
  const HfFiles* hf() const override { return nullptr; }

 private:
  using MappedSource::MappedSource;
  Metadata metadata_;
};

Result<Part> open_part(const std::string& path) {
  Part part;
  NIBBLE_TRY(part.file, MappedFile::open(path));
  NIBBLE_TRY_IN(path, part.header, parse_gguf(part.file.bytes()));
  return part;
}

Status check_part(const Part& part, std::uint64_t number, std::uint64_t count) {
  const Metadata& metadata = part.header.metadata;
  NIBBLE_TRY(const auto no, metadata.uint(kSplitNo));
  NIBBLE_TRY(const auto n, metadata.uint(kSplitCount));
  if (no != number || n != count)
    return fail(ErrorCode::corrupt, "is part {} of {} by its metadata, {} of {} by its name",
                no + 1, n, number + 1, count);
  return {};
}

Result<std::vector<Part>> open_split(const std::string& path, std::uint64_t count) {
  const auto name = parse_split_name(path);
  if (!name || name->count != count)
    return fail(ErrorCode::invalid,
                "{}: one of {} parts; name them like name-00001-of-{:05}.gguf to open them", path,
                count, count);
  std::vector<Part> parts;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string file = split_name(name->prefix, i, count);
    NIBBLE_TRY(Part part, open_part(file));
    NIBBLE_DO_IN(file, check_part(part, i, count));
    parts.push_back(std::move(part));
  }
  return parts;
}

class Gguf final : public Container {
  std::string_view id() const override { return "gguf"; }

  bool recognises(const std::string& path, bool directory,
                  std::span<const std::byte> head) const override {
    if (directory) return false;
    const bool magic = head.size() >= 4 && std::memcmp(head.data(), "GGUF", 4) == 0;
    return magic || path.ends_with(".gguf");
  }

  Result<std::unique_ptr<Source>> open(const std::string& path) const override {
    std::vector<Part> parts;
    NIBBLE_TRY(Part first, open_part(path));
    NIBBLE_TRY_IN(path, const auto count, first.header.metadata.uint_or(kSplitCount, 1));
    if (count > 1) {
      NIBBLE_TRY(parts, open_split(path, count));
    } else {
      parts.push_back(std::move(first));
    }
    NIBBLE_TRY_IN(path, auto source, GgufSource::make(path, std::move(parts)));
    return source;
  }
};

}  // namespace

namespace registry {
const Container& container_gguf() {
  static const Gguf container;
  return container;
}
}  // namespace registry
}  // namespace nibble
