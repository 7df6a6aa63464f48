// Writes GGUF version 3 (layout in gguf_parse.h), one file or split: every part has its own header,
// part 1 carries the metadata of the model, the others only their place among the parts.
#include <algorithm>
#include <bit>
#include <filesystem>
#include <functional>
#include <set>

#include "base/checked.h"
#include "base/file.h"
#include "base/utf8.h"
#include "container/gguf_parse.h"
#include "container/gguf_split.h"
#include "container/writer.h"

namespace nibble {
namespace {

class ByteWriter {
 public:
  template <class T>
  void put(T value) {
    static_assert(std::is_arithmetic_v<T> && std::endian::native == std::endian::little);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  void put(bool value) { put(std::uint8_t(value)); }
  void put(const std::string& text) {
    put(std::uint64_t(text.size()));
    bytes_ += text;
  }
  template <class T>
  void put(const std::vector<T>& values) {
    put(std::uint64_t(values.size()));
    for (const auto& value : values) put(T(value));
  }
  void pad(std::uint64_t alignment) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
  }
  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(bytes_)); }

 private:
  std::string bytes_;
};

void put_value(const MetaValue& value, ByteWriter& out) {
  const std::size_t index = value.index();
  if (index < kMetaScalars) {
    out.put(gguf_value_type(index));
  } else {
    out.put(kGgufArray);
    out.put(gguf_value_type(index - kMetaScalars));
  }
  std::visit([&](const auto& x) { out.put(x); }, value);
}

Status check_tensor(const TensorInfo& tensor) {
  if (tensor.name.empty() || tensor.name.size() > kGgufMaxName || !is_utf8(tensor.name))
    return fail(ErrorCode::invalid, "name is empty, longer than {} bytes or not UTF-8",
                kGgufMaxName);
  if (tensor.shape.empty() || tensor.shape.size() > kGgufMaxDims)
    return fail(ErrorCode::invalid, "{} dimensions, GGUF holds 1 to 4", tensor.shape.size());
  if (!tensor.format || tensor.format->spec().ggml_type < 0)
    return fail(ErrorCode::invalid, "GGUF files have no {}; choose a level or a format of GGUF",
                tensor.format ? tensor.format->id() : "format");
  NIBBLE_TRY(const auto bytes, stored_bytes(*tensor.format, tensor.shape));
  if (bytes != tensor.bytes)
    return fail(ErrorCode::invalid, "{} bytes stated, its shape needs {}", tensor.bytes, bytes);
  return {};
}

Status check_all(const Metadata& metadata, const std::vector<TensorInfo>& tensors) {
  for (const auto& [key, value] : metadata.entries())
    if (key.empty() || !is_utf8(key))
      return fail(ErrorCode::invalid, "metadata key {} is empty or not UTF-8", quote(key));
  std::set<std::string_view> names;
  for (const TensorInfo& tensor : tensors) {
    NIBBLE_DO_IN("tensor " + quote(tensor.name), check_tensor(tensor));
    if (!names.insert(tensor.name).second)
      return fail(ErrorCode::invalid, "tensor {} occurs twice", quote(tensor.name));
  }
  return {};
}

Result<std::uint64_t> alignment_of(const Metadata& metadata) {
  NIBBLE_TRY(const auto alignment, metadata.uint_or("general.alignment", kGgufDefaultAlignment));
  if (!std::has_single_bit(alignment) || alignment > 1u << 20)
    return fail(ErrorCode::invalid, "general.alignment: {} is not a power of two up to 2^20",
                alignment);
  return alignment;
}

/// Tensors [begin, end) go into one file.
struct Range {
  std::size_t begin = 0, end = 0;
};

std::vector<Range> cut(const std::vector<TensorInfo>& tensors, std::uint64_t limit) {
  std::vector<Range> parts(1);
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (limit > 0 && bytes > 0 && (tensors[i].bytes > limit || bytes > limit - tensors[i].bytes)) {
      parts.push_back({i, i});
      bytes = 0;
    }
    bytes += tensors[i].bytes;
    parts.back().end = i + 1;
  }
  return parts;
}

ByteWriter make_header(const Metadata& metadata, std::span<const TensorInfo> tensors,
                       std::uint64_t alignment) {
  ByteWriter out;
  out.put(std::uint32_t(0x46554747));  // "GGUF"
  out.put(std::uint32_t(3));
  out.put(std::uint64_t(tensors.size()));
  out.put(std::uint64_t(metadata.entries().size()));
  for (const auto& [key, value] : metadata.entries()) {
    out.put(key);
    put_value(value, out);
  }
  std::uint64_t offset = 0;
  for (const TensorInfo& tensor : tensors) {
    out.put(tensor.name);
    out.put(std::uint32_t(tensor.shape.size()));
    for (auto it = tensor.shape.rbegin(); it != tensor.shape.rend(); ++it) out.put(*it);
    out.put(std::uint32_t(tensor.format->spec().ggml_type));
    out.put(offset);
    offset += (tensor.bytes + alignment - 1) / alignment * alignment;
  }
  out.pad(alignment);
  return out;
}

Metadata part_metadata(const Metadata& model, std::size_t part, std::size_t parts,
                       std::size_t tensors) {
  Metadata metadata = part == 0 ? model : Metadata();
  const MetaValue* alignment = model.find("general.alignment");
  if (part > 0 && alignment) metadata.set("general.alignment", *alignment);
  for (const char* key : {kSplitNo, kSplitCount, kSplitTensors}) metadata.erase(key);
  if (parts == 1) return metadata;
  metadata.set(kSplitNo, std::uint16_t(part));
  metadata.set(kSplitCount, std::uint16_t(parts));
  metadata.set(kSplitTensors, std::int32_t(tensors));
  return metadata;
}

class GgufFiles final : public GgufWriter {
 public:
  GgufFiles(std::vector<TensorInfo> tensors, std::vector<Range> ranges, std::uint64_t alignment,
            bool resume)
      : tensors_(std::move(tensors)),
        ranges_(std::move(ranges)),
        alignment_(alignment),
        resume_(resume) {}

  /// Creates every file with its header; `name` gives the path of part i.
  Status start(const Metadata& metadata, const std::function<std::string(std::size_t)>& name) {
    for (std::size_t i = 0; i < ranges_.size(); ++i)
      NIBBLE_DO(add_part(name(i), header(metadata, i)));
    return {};
  }

  std::size_t part_count() const { return ranges_.size(); }

  /// Header and tensors of all parts, in bytes.
  Result<std::uint64_t> bytes(const Metadata& metadata) const {
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < ranges_.size(); ++i) {
      NIBBLE_TRY(const auto part, part_bytes(i, header(metadata, i).bytes().size()));
      NIBBLE_TRY(total, checked_add(total, part));
    }
    return total;
  }

  Status replace(const Metadata& metadata) override {
    for (std::size_t i = 0; i < files_.size(); ++i) {
      const ByteWriter fresh = header(metadata, i);
      if (fresh.bytes().size() != header_bytes_[i])
        return fail(ErrorCode::internal, "{}: a header of {} bytes in place of one of {}",
                    files_[i].path(), fresh.bytes().size(), header_bytes_[i]);
      NIBBLE_DO(files_[i].write_at(0, fresh.bytes()));
    }
    return {};
  }

  std::vector<std::string> parts() const override {
    std::vector<std::string> paths;
    for (const OutputFile& file : files_) paths.push_back(file.part_path());
    return paths;
  }

  Status write(std::size_t index, std::span<const std::byte> bytes) override {
    if (index >= left_.size())
      return fail(ErrorCode::internal, "tensor {} of {} written", index, left_.size());
    Left& tensor = left_[index];
    OutputFile& file = files_[tensor.file];
    if (bytes.size() > tensor.bytes)
      return fail(ErrorCode::internal, "{}: tensor {}: {} bytes more than its shape holds",
                  file.path(), quote(tensor.name), bytes.size() - tensor.bytes);
    NIBBLE_DO(file.write_at(tensor.offset, bytes));
    tensor.offset += bytes.size();
    tensor.bytes -= bytes.size();
    if (tensor.bytes > 0 || bytes.empty()) return {};
    const std::vector<std::byte> padding((alignment_ - tensor.offset % alignment_) % alignment_);
    return file.write_at(tensor.offset, padding);
  }

  Status read_back(std::size_t index, std::span<std::byte> bytes) override {
    const Left& tensor = left_[index];
    NIBBLE_CHECK(bytes.size() == tensors_[index].bytes);
    return files_[tensor.file].read_at(tensor.offset, bytes);
  }

  void keep(std::size_t index) override { left_[index].bytes = 0; }

  void leave() override {
    for (OutputFile& file : files_) file.leave();
  }

  Result<std::vector<std::string>> finish() override {
    NIBBLE_DO(check_complete());
    std::vector<std::string> paths;
    for (OutputFile& file : files_) {
      if (auto status = file.commit(); !status) {
        for (const std::string& path : paths) std::filesystem::remove(path);
        return tl::unexpected<Error>(status.error());
      }
      paths.push_back(file.path());
    }
    return paths;
  }

 private:
  struct Left {
    std::string name;
    std::size_t file;
    std::uint64_t offset;  // in the file, where the next of its bytes go
    std::uint64_t bytes;   // that are still to come
  };

  std::span<const TensorInfo> tensors(std::size_t part) const {
    return std::span(tensors_).subspan(ranges_[part].begin,
                                       ranges_[part].end - ranges_[part].begin);
  }

  ByteWriter header(const Metadata& metadata, std::size_t part) const {
    return make_header(part_metadata(metadata, part, ranges_.size(), tensors_.size()),
                       tensors(part), alignment_);
  }

  Result<std::uint64_t> part_bytes(std::size_t part, std::uint64_t bytes) const {
    for (const TensorInfo& tensor : tensors(part)) {
      NIBBLE_TRY(bytes, checked_add(bytes, tensor.bytes));
      NIBBLE_TRY(bytes, checked_align(bytes, alignment_));
    }
    return bytes;
  }

  Status add_part(const std::string& path, const ByteWriter& header) {
    const std::size_t part = files_.size();
    NIBBLE_TRY(OutputFile file, OutputFile::create(path, resume_));
    NIBBLE_TRY_IN(path, const auto bytes, part_bytes(part, header.bytes().size()));
    std::uint64_t offset = header.bytes().size();
    for (const TensorInfo& tensor : tensors(part)) {
      left_.push_back({tensor.name, part, offset, tensor.bytes});
      offset += (tensor.bytes + alignment_ - 1) / alignment_ * alignment_;
    }
    NIBBLE_DO(file.reserve(bytes));
    NIBBLE_DO(file.write_at(0, header.bytes()));
    header_bytes_.push_back(header.bytes().size());
    files_.push_back(std::move(file));
    return {};
  }

  Status check_complete() const {
    for (const Left& tensor : left_)
      if (tensor.bytes > 0)
        return fail(ErrorCode::internal, "{}: tensor {}: {} bytes were not written",
                    files_[tensor.file].path(), quote(tensor.name), tensor.bytes);
    return {};
  }

  std::vector<TensorInfo> tensors_;
  std::vector<Range> ranges_;
  std::uint64_t alignment_;
  bool resume_;
  std::vector<std::uint64_t> header_bytes_;
  std::vector<OutputFile> files_;
  std::vector<Left> left_;
};

Result<std::unique_ptr<GgufFiles>> make_writer(const Metadata& metadata,
                                               const std::vector<TensorInfo>& tensors,
                                               const WriteOptions& options) {
  NIBBLE_DO(check_all(metadata, tensors));
  NIBBLE_TRY(const auto alignment, alignment_of(metadata));
  std::vector<Range> parts = cut(tensors, options.split_bytes);
  if (parts.size() > 0xffff)
    return fail(ErrorCode::invalid, "{} parts, at most 65535 can be; choose larger ones",
                parts.size());
  return std::make_unique<GgufFiles>(tensors, std::move(parts), alignment, options.resume);
}

std::string without_suffix(const std::string& path) {
  return path.ends_with(".gguf") ? path.substr(0, path.size() - 5) : path;
}

}  // namespace

Result<std::unique_ptr<GgufWriter>> create_gguf(const std::string& path, const Metadata& metadata,
                                                const std::vector<TensorInfo>& tensors,
                                                const WriteOptions& options) {
  NIBBLE_TRY_IN(path, auto writer, make_writer(metadata, tensors, options));
  const std::size_t parts = writer->part_count();
  NIBBLE_DO(writer->start(metadata, [&](std::size_t i) {
    return parts == 1 ? path : split_name(without_suffix(path), i, parts);
  }));
  return writer;
}

Result<std::uint64_t> gguf_bytes(const Metadata& metadata, const std::vector<TensorInfo>& tensors,
                                 const WriteOptions& options) {
  NIBBLE_TRY(const auto writer, make_writer(metadata, tensors, options));
  return writer->bytes(metadata);
}

Status check_not_there(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::exists(path, error)) return fail(ErrorCode::invalid, "{}: exists already", path);
  const std::string prefix = without_suffix(path);
  const fs::path parent = fs::path(path).parent_path();
  for (const auto& entry : fs::directory_iterator(parent.empty() ? "." : parent, error)) {
    const auto part = parse_split_name(entry.path().filename().string());
    if (part && part->prefix == fs::path(prefix).filename().string())
      return fail(ErrorCode::invalid, "{}: {} exists already", path,
                  entry.path().filename().string());
  }
  return {};
}

}  // namespace nibble
