// Safetensors as a source of tensors: one .safetensors file, or a Hugging Face directory with its
// description (config.json, tokenizer.json, ...) and one file or several listed by an index.
// Matrices that quantization has spread over several tensors (scheme.h) are put together.
#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>

#include "base/file.h"
#include "base/utf8.h"
#include "container/container.h"
#include "container/safetensors_index.h"
#include "container/safetensors_parse.h"
#include "container/scheme.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kLargestConfig = 16u << 20, kLargestTokenizer = 256u << 20;

/// The tensors of one file or several, with matrices put together that lie in several tensors.
class SafetensorsSource final : public Source {
 public:
  explicit SafetensorsSource(std::string path) : path_(std::move(path)) {}

  Status add_file(const std::string& path) {
    NIBBLE_TRY(MappedFile file, MappedFile::open(path));
    NIBBLE_TRY_IN(path, auto tensors, parse_safetensors(file.bytes()));
    for (RawTensor& tensor : tensors) {
      if (!names_.insert(tensor.name).second)
        return fail(ErrorCode::corrupt, "tensor {} occurs twice", quote(tensor.name));
      raw_.push_back(std::move(tensor));
      file_of_.push_back(files_.size());
    }
    files_.push_back(std::move(file));
    return {};
  }

  void set_hf(HfFiles hf) { hf_ = std::move(hf); }
  const std::set<std::string>& names() const { return names_; }

  /// After the last file.
  Status arrange() {
    const Scheme* scheme = nullptr;
    Unpacked unpacked;
    if (hf_) {
      NIBBLE_TRY_IN(path_, scheme, scheme_of(hf_->config));
      const RawTensors all(raw_);
      if (scheme) {
        NIBBLE_TRY_IN(path_, unpacked, scheme->unpack(*scheme->settings(hf_->config), all));
        if (unpacked.tensors.empty() && fs::is_directory(path_))  // a shard may have none
          return fail(ErrorCode::corrupt,
                      "{}: config.json says that it is quantized ({}), but no tensor is stored so",
                      path_, scheme->id());
      }
    }
    std::set<std::string_view> used;
    for (const auto& tensor : unpacked.tensors)
      used.insert(tensor->parts().begin(), tensor->parts().end());
    for (std::size_t i = 0; i < raw_.size(); ++i) {
      if (used.contains(raw_[i].name) || (scheme && scheme->ignores(raw_[i].name))) continue;
      NIBBLE_DO_IN(files_[file_of_[i]].path() + ": tensor " + quote(raw_[i].name), add_plain(i));
    }
    for (auto& tensor : unpacked.tensors) {
      infos_.push_back(tensor->info());
      places_.push_back({.packed = tensor.get()});
    }
    packed_ = std::move(unpacked.tensors);
    notes_ = std::move(unpacked.notes);
    return {};
  }

  const std::string& path() const override { return path_; }
  std::string_view container() const override { return "safetensors"; }
  std::vector<std::string> files() const override {
    std::vector<std::string> paths;
    for (const MappedFile& file : files_) paths.push_back(file.path());
    return paths;
  }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  std::span<const std::byte> data(std::size_t index) const override {
    const Place& place = places_[index];
    return place.packed ? std::span<const std::byte>() : raw_[place.raw].data;
  }
  void read_rows(std::size_t index, std::uint64_t begin, std::uint64_t end,
                 std::byte* out) const override {
    if (const PackedTensor* packed = places_[index].packed) return packed->read(begin, end, out);
    Source::read_rows(index, begin, end, out);
  }
  /// The rows of a packed matrix lie anywhere: its pages go when the last of them are done with.
  void release(std::size_t index, std::uint64_t offset, std::uint64_t length) const override {
    if (offset >= infos_[index].bytes) return;
    length = std::min(length, infos_[index].bytes - offset);
    if (const PackedTensor* packed = places_[index].packed) {
      if (offset + length < infos_[index].bytes) return;
      for (std::size_t i = 0; i < raw_.size(); ++i)
        if (std::ranges::count(packed->parts(), raw_[i].name) > 0)
          release_raw(i, 0, raw_[i].data.size());
      return;
    }
    release_raw(places_[index].raw, offset, length);
  }
  const Metadata& metadata() const override { return metadata_; }
  const HfFiles* hf() const override { return hf_ ? &*hf_ : nullptr; }
  std::vector<std::string> notes() const override { return notes_; }

 private:
  struct Place {
    std::size_t raw = 0;
    const PackedTensor* packed = nullptr;
  };

  /// nullptr: nothing is packed.
  static Result<const Scheme*> scheme_of(const Json& config) {
    for (const Scheme* scheme : scheme_registry())
      if (scheme->settings(config)) return scheme;
    const auto found = config.find("quantization_config");
    if (found == config.end() || found->is_null()) return nullptr;
    std::string known;
    for (const Scheme* scheme : scheme_registry()) known += fmt::format(" {}", scheme->id());
    const auto method =
        found->is_object() ? json_string(*found, "quant_method") : json_string(*found, "");
    return fail(ErrorCode::unsupported, "config.json: quantization_config: {}; nibble reads:{}",
                method ? "quant_method " + quote(*method) : method.error().message(), known);
  }

  Status add_plain(std::size_t i) {
    const RawTensor& raw = raw_[i];
    if (!raw.dtype->format)
      return fail(ErrorCode::unsupported, "has dtype '{}', nibble reads F32, F16 and BF16{}",
                  raw.dtype->name,
                  hf_ ? "; it belongs to no matrix that config.json's quantization describes" : "");
    infos_.push_back({.name = raw.name,
                      .shape = raw.shape,
                      .format = find_format(raw.dtype->format),
                      .bytes = raw.data.size()});
    places_.push_back({.raw = i});
    return {};
  }

  void release_raw(std::size_t i, std::uint64_t offset, std::uint64_t length) const {
    const MappedFile& file = files_[file_of_[i]];
    file.release(std::uint64_t(raw_[i].data.data() - file.bytes().data()) + offset, length);
  }

  std::string path_;
  std::vector<MappedFile> files_;
  std::vector<RawTensor> raw_;
  std::vector<std::size_t> file_of_;  // of each of them
  std::set<std::string> names_;
  std::vector<std::unique_ptr<PackedTensor>> packed_;
  std::vector<TensorInfo> infos_;
  std::vector<Place> places_;
  std::vector<std::string> notes_;
  Metadata metadata_;
  std::optional<HfFiles> hf_;
};

std::string in_directory(const fs::path& directory, const char* name) {
  return (directory / name).string();
}

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// Null if the file is absent.
Result<Json> read_json(const std::string& path) {
  if (!exists(path)) return Json();
  NIBBLE_TRY(const std::string text, read_text(path, kLargestConfig));
  NIBBLE_TRY_IN(path, Json json, parse_json(text));
  if (!json.is_object())
    return fail(ErrorCode::corrupt, "{}: expected a JSON object, found {}", path, json.type_name());
  return json;
}

Result<std::string> read_optional(const std::string& path, std::uint64_t limit) {
  return exists(path) ? read_text(path, limit) : Result<std::string>("");
}

}  // namespace

Result<HfFiles> read_hf_files(const std::string& directory) {
  const std::string config = in_directory(directory, "config.json");
  if (!exists(config))
    return fail(ErrorCode::invalid, "{}: missing; it describes the architecture of a checkpoint",
                config);
  HfFiles hf;
  NIBBLE_TRY(hf.config, read_json(config));
  NIBBLE_TRY(hf.generation_config, read_json(in_directory(directory, "generation_config.json")));
  NIBBLE_TRY(hf.tokenizer_json,
             read_optional(in_directory(directory, "tokenizer.json"), kLargestTokenizer));
  NIBBLE_TRY(hf.tokenizer_config, read_json(in_directory(directory, "tokenizer_config.json")));
  NIBBLE_TRY(hf.chat_template,
             read_optional(in_directory(directory, "chat_template.jinja"), kLargestConfig));
  return hf;
}

namespace {

Status check_index(const std::string& path, const SafetensorsIndex& shards,
                   const std::set<std::string>& names) {
  for (const auto& [name, shard] : shards)
    if (!names.contains(name))
      return fail(ErrorCode::corrupt, "{}: tensor {} is missing from {}", path, quote(name),
                  quote(shard));
  return {};
}

/// The .safetensors file of a directory without an index.
Result<std::string> only_file(const fs::path& directory) {
  const std::string usual = in_directory(directory, "model.safetensors");
  if (exists(usual)) return usual;
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error))
    if (entry.path().extension() == ".safetensors") found.push_back(entry.path().string());
  if (found.size() == 1) return found.front();
  return fail(ErrorCode::invalid,
              "{}: {} .safetensors files, neither model.safetensors nor an index",
              directory.string(), found.size());
}

Status add_directory(const std::string& path, SafetensorsSource& source) {
  const std::string index = in_directory(path, kSafetensorsIndex);
  if (!exists(index)) {
    NIBBLE_TRY(const std::string file, only_file(path));
    return source.add_file(file);
  }
  NIBBLE_TRY(const auto shards, read_safetensors_index(index));
  std::set<std::string> files;
  for (const auto& [name, shard] : shards) files.insert(shard);
  for (const std::string& file : files)
    NIBBLE_DO(source.add_file(in_directory(path, file.c_str())));
  return check_index(index, shards, source.names());
}

class Safetensors final : public Container {
  std::string_view id() const override { return "safetensors"; }

  bool recognises(const std::string& path, bool directory,
                  std::span<const std::byte> head) const override {
    return directory || path.ends_with(".safetensors") ||
           (head.size() > 8 && head[8] == std::byte('{') && head[7] == std::byte(0));
  }

  Result<std::unique_ptr<Source>> open(const std::string& path) const override {
    auto source = std::make_unique<SafetensorsSource>(path);
    std::error_code ignored;
    const bool directory = fs::is_directory(path, ignored);
    const fs::path home = directory ? fs::path(path) : fs::path(path).parent_path();
    if (directory || exists(in_directory(home, "config.json"))) {
      NIBBLE_TRY(HfFiles hf, read_hf_files(home.string()));
      source->set_hf(std::move(hf));
    }
    if (directory) {
      NIBBLE_DO(add_directory(path, *source));
    } else {
      NIBBLE_DO(source->add_file(path));
    }
    NIBBLE_DO(source->arrange());
    return source;
  }
};

}  // namespace

namespace registry {
const Container& container_safetensors() {
  static const Safetensors container;
  return container;
}
}  // namespace registry
}  // namespace nibble
