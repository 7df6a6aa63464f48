// Safetensors as a source of tensors: one .safetensors file, or a Hugging Face directory with its
// description (config.json, tokenizer.json, ...) and one file or several listed by an index.
#include <filesystem>
#include <optional>
#include <set>

#include "base/utf8.h"
#include "container/container.h"
#include "container/mapped_source.h"
#include "container/safetensors_index.h"
#include "container/safetensors_parse.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kLargestConfig = 16u << 20, kLargestTokenizer = 256u << 20;

class SafetensorsSource final : public MappedSource {
 public:
  explicit SafetensorsSource(std::string path) : MappedSource(std::move(path)) {}

  Status add_file(const std::string& path) {
    NIBBLE_TRY(MappedFile file, MappedFile::open(path));
    NIBBLE_TRY_IN(path, SafetensorsHeader header, parse_safetensors(file.bytes()));
    add(std::move(file), std::move(header.tensors), header.offsets);
    return check_unique();
  }

  void set_hf(HfFiles hf) { hf_ = std::move(hf); }

  std::string_view container() const override { return "safetensors"; }
  const Metadata& metadata() const override { return metadata_; }
  const HfFiles* hf() const override { return hf_ ? &*hf_ : nullptr; }

 private:
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

Result<HfFiles> read_hf_files(const fs::path& directory) {
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

Status check_index(const std::string& path, const SafetensorsIndex& shards,
                   const std::vector<TensorInfo>& tensors) {
  std::set<std::string_view> names;
  for (const TensorInfo& tensor : tensors) names.insert(tensor.name);
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
  return check_index(index, shards, source.tensors());
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
      NIBBLE_TRY(HfFiles hf, read_hf_files(home));
      source->set_hf(std::move(hf));
    }
    if (directory) {
      NIBBLE_DO(add_directory(path, *source));
    } else {
      NIBBLE_DO(source->add_file(path));
    }
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
