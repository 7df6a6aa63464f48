#include "container/hf_writer.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>

#include "base/checked.h"
#include "base/file.h"
#include "base/utf8.h"
#include "container/safetensors_index.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kUsualShard = 5'000'000'000;

/// A tensor of a file, with its place.
struct Placed {
  PartInfo part;
  std::size_t file = 0;
  std::uint64_t offset = 0;  // in the file's data
};

struct Shard {
  std::string header;  // its length included
  std::uint64_t data = 0;
};

/// Where everything lies.
struct Arrangement {
  std::vector<std::vector<Placed>> parts;  // of each tensor
  std::vector<Shard> shards;
};

Result<std::vector<PartInfo>> parts_of(const HfDirectory& directory, const HfTensor& tensor) {
  if (tensor.info.name.empty()) return std::vector<PartInfo>();
  if (tensor.packed) return directory.packer->parts(tensor.info);
  const std::string_view id = tensor.info.format->id();
  const Dtype* dtype = find_dtype(id == "f32" ? "F32" : id == "f16" ? "F16" : "BF16");
  NIBBLE_CHECK(dtype->format == id);
  return std::vector<PartInfo>{{tensor.info.name, dtype, tensor.info.shape}};
}

std::string header_of(const std::vector<const Placed*>& tensors) {
  nlohmann::ordered_json json;
  json["__metadata__"] = {{"format", "pt"}};
  for (const Placed* each : tensors)
    json[each->part.name] = {{"dtype", each->part.dtype->name},
                             {"shape", each->part.shape},
                             {"data_offsets", {each->offset, each->offset + each->part.bytes()}}};
  std::string text = json.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that data are aligned
  const std::uint64_t size = text.size();
  std::string out(sizeof size, '\0');
  std::memcpy(out.data(), &size, sizeof size);
  return out + text;
}

Result<Arrangement> arrange(const HfDirectory& directory, const WriteOptions& options) {
  const std::uint64_t most = options.split_bytes > 0 ? options.split_bytes : kUsualShard;
  Arrangement out;
  std::vector<std::vector<const Placed*>> files(1);
  out.parts.reserve(directory.tensors.size());
  std::uint64_t data = 0;
  std::vector<std::uint64_t> sizes;
  for (const HfTensor& tensor : directory.tensors) {
    NIBBLE_TRY_IN("tensor " + quote(tensor.info.name), auto parts, parts_of(directory, tensor));
    std::uint64_t bytes = 0;
    for (const PartInfo& part : parts) bytes += part.bytes();
    if (data > 0 && data + bytes > most) sizes.push_back(data), data = 0, files.emplace_back();
    auto& placed = out.parts.emplace_back();
    for (PartInfo& part : parts) {
      const std::uint64_t size = part.bytes();
      placed.push_back({std::move(part), files.size() - 1, data});
      data += size;
    }
    for (const Placed& each : placed) files.back().push_back(&each);
  }
  sizes.push_back(data);
  for (std::size_t i = 0; i < files.size(); ++i)
    out.shards.push_back({header_of(files[i]), sizes[i]});
  return out;
}

std::string shard_name(std::size_t index, std::size_t count) {
  if (count == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

/// Files that describe tensors or a quantization that are not the new ones.
bool left_behind(const fs::path& file) {
  const std::string name = file.filename().string(), ending = file.extension().string();
  return ending == ".safetensors" || ending == ".bin" || ending == ".pt" || ending == ".pth" ||
         ending == ".gguf" || ending == ".part" || name == kSafetensorsIndex ||
         name == "pytorch_model.bin.index.json" || name == "config.json" || name == "README.md" ||
         name == "quantize_config.json" || name == "quant_config.json";
}

class Directory final : public HfWriter {
 public:
  Directory(std::string path, HfDirectory directory, Arrangement arrangement)
      : path_(std::move(path)),
        part_(path_ + ".part"),
        directory_(std::move(directory)),
        arrangement_(std::move(arrangement)),
        bytes_(directory_.tensors.size()),
        done_(directory_.tensors.size()) {}

  ~Directory() override {
    files_.clear();
    std::error_code ignored;
    if (!left_) fs::remove_all(part_, ignored);
  }

  Status start(bool resume) {
    std::error_code error;
    if (!resume) fs::remove_all(part_, error);
    fs::create_directories(part_, error);
    if (error) return fail(ErrorCode::io, "{}: cannot create: {}", part_, error.message());
    for (std::size_t i = 0; i < arrangement_.shards.size(); ++i) {
      const Shard& shard = arrangement_.shards[i];
      const std::string complete = file_path(i);  // by seal() of a run that got no further
      if (fs::exists(complete, error)) fs::rename(complete, complete + ".part", error);
      NIBBLE_TRY(OutputFile file, OutputFile::create(file_path(i), resume));
      NIBBLE_DO(file.reserve(shard.header.size() + shard.data));
      NIBBLE_DO(file.write_at(0, std::as_bytes(std::span(shard.header))));
      files_.push_back(std::move(file));
    }
    return {};
  }

  Status write(std::size_t index, std::span<const std::byte> bytes) override {
    const TensorInfo& info = directory_.tensors[index].info;
    std::vector<std::byte>& all = bytes_[index];
    if (all.empty()) all.reserve(info.bytes);
    if (bytes.size() > info.bytes - all.size())
      return fail(ErrorCode::internal, "{}: tensor {}: more bytes than its shape holds", path_,
                  quote(info.name));
    all.insert(all.end(), bytes.begin(), bytes.end());
    return all.size() == info.bytes ? complete(index) : Status{};
  }

  Status read_back(std::size_t index, std::span<std::byte> bytes) override {
    HfTensor& tensor = directory_.tensors[index];
    std::vector<std::vector<std::byte>> data;
    if (tensor.info.name.empty()) return fail(ErrorCode::invalid, "{}: nothing is kept", path_);
    for (const Placed& each : arrangement_.parts[index]) {
      data.emplace_back(each.part.bytes());
      NIBBLE_DO(files_[each.file].read_at(place(each), data.back()));
    }
    if (!tensor.packed) {
      reorder(tensor, data.front(), bytes, false);
      return {};
    }
    std::vector<RawTensor> raw;
    for (std::size_t i = 0; i < data.size(); ++i) {
      const PartInfo& part = arrangement_.parts[index][i].part;
      raw.push_back({part.name, part.dtype, part.shape, data[i]});
    }
    return unpack(tensor, raw, bytes);
  }

  void set_attributes(std::size_t index, const TensorAttributes& attributes) override {
    TensorInfo& info = directory_.tensors[index].info;
    info.order = attributes.order, info.inputs = attributes.inputs;
  }
  TensorAttributes attributes(std::size_t index) const override {
    const TensorInfo& info = directory_.tensors[index].info;
    return {info.order, info.inputs};
  }

  void keep(std::size_t index) override { done_[index] = true; }

  void leave() override {
    for (OutputFile& file : files_) file.leave();
    left_ = true;
  }

  Result<std::string> seal() override {
    for (std::size_t i = 0; i < done_.size(); ++i)
      if (!done_[i])
        return fail(ErrorCode::internal, "{}: tensor {} was not written", path_,
                    quote(directory_.tensors[i].info.name));
    for (OutputFile& file : files_) NIBBLE_DO(file.commit());
    NIBBLE_DO(write_description());
    sealed_ = true;
    return part_;
  }

  Result<std::vector<std::string>> finish() override {
    if (!sealed_) NIBBLE_DO(seal().map([](const auto&) {}));
    NIBBLE_DO(take_name());
    std::vector<std::string> paths;
    for (std::size_t i = 0; i < arrangement_.shards.size(); ++i)
      paths.push_back((fs::path(path_) / shard_name(i, arrangement_.shards.size())).string());
    return paths;
  }

 private:
  std::string file_path(std::size_t i) const {
    return (fs::path(part_) / shard_name(i, arrangement_.shards.size())).string();
  }
  std::uint64_t place(const Placed& each) const {
    return arrangement_.shards[each.file].header.size() + each.offset;
  }

  /// Rows as they are written to rows as the directory has them, or back.
  static void reorder(const HfTensor& tensor, std::span<const std::byte> from,
                      std::span<std::byte> to, bool forward) {
    if (tensor.rows.empty()) {
      std::ranges::copy(from, to.begin());
      return;
    }
    const std::size_t row = from.size() / tensor.rows.size();
    for (std::size_t r = 0; r < tensor.rows.size(); ++r) {
      const std::size_t there = tensor.rows[r];
      std::memcpy(to.data() + (forward ? there : r) * row,
                  from.data() + (forward ? r : there) * row, row);
    }
  }

  Status complete(std::size_t index) {
    const HfTensor& tensor = directory_.tensors[index];
    done_[index] = true;
    if (tensor.info.name.empty()) return {};
    std::vector<std::byte> rows(bytes_[index].size());
    reorder(tensor, bytes_[index], rows, true);
    std::vector<std::byte>().swap(bytes_[index]);
    const auto& placed = arrangement_.parts[index];
    std::vector<std::vector<std::byte>> data;
    for (const Placed& each : placed) data.emplace_back(tensor.packed ? each.part.bytes() : 0);
    const std::vector<std::span<std::byte>> spans(data.begin(), data.end());
    if (tensor.packed)
      directory_.packer->pack(tensor.info, rows, spans);
    else
      data.front() = std::move(rows);
    for (std::size_t i = 0; i < placed.size(); ++i)
      NIBBLE_DO(files_[placed[i].file].write_at(place(placed[i]), data[i]));
    return {};
  }

  Status unpack(HfTensor& tensor, const std::vector<RawTensor>& raw,
                std::span<std::byte> bytes) const {
    const Json config = directory_.packer->settings(directory_.kept);
    for (const Scheme* scheme : scheme_registry()) {
      const Json* settings = scheme->settings(config);
      if (!settings) continue;
      const RawTensors tensors(raw);
      NIBBLE_TRY(const Unpacked unpacked, scheme->unpack(*settings, tensors));
      if (unpacked.tensors.size() != 1 || unpacked.tensors[0]->info().bytes != bytes.size()) break;
      std::vector<std::byte> rows(bytes.size());
      unpacked.tensors[0]->read(0, tensor.info.rows(), rows.data());
      const TensorInfo& found = unpacked.tensors[0]->info();
      tensor.info.order = found.order, tensor.info.inputs = found.inputs;
      reorder(tensor, rows, bytes, false);
      return {};
    }
    return fail(ErrorCode::corrupt, "tensor {} reads back as something else",
                quote(tensor.info.name));
  }

  /// Everything that is not a tensor.
  Status write_description() const {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(directory_.source, error)) {
      if (!entry.is_regular_file() || left_behind(entry.path())) continue;
      fs::copy_file(entry.path(), fs::path(part_) / entry.path().filename(),
                    fs::copy_options::overwrite_existing, error);
      if (error)
        return fail(ErrorCode::io, "{}: cannot copy to {}: {}", entry.path().string(), part_,
                    error.message());
    }
    if (error) return fail(ErrorCode::io, "{}: {}", directory_.source, error.message());
    NIBBLE_DO(write_config());
    return arrangement_.shards.size() > 1 ? write_index() : Status{};
  }

  Status write_config() const {
    const std::string from = (fs::path(directory_.source) / "config.json").string();
    NIBBLE_TRY(const std::string text, read_text(from));
    auto config = nlohmann::ordered_json::parse(text, nullptr, false);
    if (!config.is_object()) return fail(ErrorCode::corrupt, "{}: not a JSON object", from);
    for (const char* old : {"quantization_config", "quantization"}) config.erase(old);
    const Json settings = directory_.packer->settings(directory_.kept);
    for (const auto& [key, value] : settings.items()) config[key] = value;
    if (directory_.untied) config["tie_word_embeddings"] = false;
    return write_text((fs::path(part_) / "config.json").string(), config.dump(2) + "\n");
  }

  Status write_index() const {
    std::map<std::string, std::string> files;
    std::uint64_t total = 0;
    for (const auto& parts : arrangement_.parts)
      for (const Placed& each : parts) {
        files[each.part.name] = shard_name(each.file, arrangement_.shards.size());
        total += each.part.bytes();
      }
    const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", files}};
    return write_text((fs::path(part_) / kSafetensorsIndex).string(), index.dump(2) + "\n");
  }

  /// What had the name before goes only when the new directory has it.
  Status take_name() {
    const std::string old = path_ + ".old";
    std::error_code error;
    fs::remove_all(old, error);
    const bool there = fs::exists(path_, error);
    if (there) fs::rename(path_, old, error);
    if (!error) fs::rename(part_, path_, error);
    if (error) {
      std::error_code ignored;
      if (there && !fs::exists(path_, ignored)) fs::rename(old, path_, ignored);
      return fail(ErrorCode::io, "{}: cannot finish writing: {}", path_, error.message());
    }
    fs::remove_all(old, error);
    left_ = true;
    return {};
  }

  std::string path_, part_;
  HfDirectory directory_;
  Arrangement arrangement_;
  std::vector<OutputFile> files_;
  std::vector<std::vector<std::byte>> bytes_;  // of each tensor, until it is whole
  std::vector<bool> done_;
  bool left_ = false, sealed_ = false;
};

}  // namespace

Result<std::unique_ptr<HfWriter>> create_hf(const std::string& path, const HfDirectory& directory,
                                            const WriteOptions& options) {
  NIBBLE_TRY_IN(path, Arrangement arrangement, arrange(directory, options));
  auto writer = std::make_unique<Directory>(path, directory, std::move(arrangement));
  NIBBLE_DO(writer->start(options.resume));
  return writer;
}

Result<std::uint64_t> hf_bytes(const HfDirectory& directory, const WriteOptions& options) {
  NIBBLE_TRY(const Arrangement arrangement, arrange(directory, options));
  std::uint64_t total = 0;
  for (const Shard& shard : arrangement.shards) total += shard.header.size() + shard.data;
  return total;
}

}  // namespace nibble
