#include "advise/shapes.h"

#include <algorithm>
#include <filesystem>

#include "arch/fields.h"
#include "base/file.h"
#include "text/tokenizer.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kLargestConfig = 16u << 20;
/// Of tokens, their kinds and merges in a GGUF, for each row of the embedding: SmolLM2 has 36.
constexpr std::uint64_t kVocabularyBytes = 36;
constexpr std::uint32_t kMostExperts = 1024;

/// Stands for files that are not there.
class NoSource final : public Source {
 public:
  NoSource(std::string path, HfFiles files) : path_(std::move(path)), files_(std::move(files)) {}
  const std::string& path() const override { return path_; }
  std::string_view container() const override { return "config.json"; }
  std::vector<std::string> files() const override { return {path_}; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  std::span<const std::byte> data(std::size_t) const override { return {}; }
  void release(std::size_t, std::uint64_t, std::uint64_t) const override {}
  const Metadata& metadata() const override { return metadata_; }
  const HfFiles* hf() const override { return &files_; }

 private:
  std::string path_;
  HfFiles files_;
  std::vector<TensorInfo> tensors_;
  Metadata metadata_;
};

/// The tensors that a configuration describes, in bfloat16.
class ConfigCheckpoint final : public Checkpoint {
 public:
  ConfigCheckpoint(NoSource source, Metadata metadata, std::vector<TensorInfo> tensors)
      : source_(std::move(source)),
        metadata_(std::move(metadata)),
        plan_input_(plan_input_of(metadata_, std::move(tensors))) {}

  const Source& source() const override { return source_; }
  const PlanInput& plan_input() const override { return plan_input_; }
  Result<Metadata> metadata() const override { return metadata_; }
  void load_rows(std::size_t, std::uint64_t, std::uint64_t, float*) const override { refuse(); }
  void load_bytes(std::size_t, std::uint64_t, std::uint64_t, std::byte*) const override {
    refuse();
  }
  bool keeps_values(std::size_t) const override { return true; }
  void untie_head() override { refuse(); }
  void release(std::size_t, std::uint64_t, std::uint64_t) const override {}

 private:
  static void refuse() { NIBBLE_CHECK(false && "there are no values"); }

  NoSource source_;
  Metadata metadata_;
  PlanInput plan_input_;
};

TensorInfo tensor_of(std::string name, std::vector<std::uint64_t> shape, const char* format) {
  TensorInfo info{.name = std::move(name), .shape = std::move(shape)};
  info.format = find_format(format);
  info.bytes = info.elements() * info.format->spec().bytes;
  return info;
}

std::vector<TensorInfo> tensors_of(const Graph& graph) {
  std::vector<TensorInfo> out;
  for (const Weight& weight : graph.weights)
    out.push_back(tensor_of(weight.name, weight.shape, weight.shape.size() < 2 ? "f32" : "bf16"));
  return out;
}

/// Every feed-forward matrix becomes one of `experts` in one tensor, and each layer gets a router.
std::vector<TensorInfo> with_experts(std::vector<TensorInfo> tensors, std::uint64_t experts) {
  std::vector<TensorInfo> out;
  for (TensorInfo& tensor : tensors) {
    const std::size_t at = tensor.name.find(".ffn_");
    const bool expert = at != tensor.name.npos && tensor.shape.size() == 2;
    if (expert && tensor.name.ends_with("ffn_gate.weight"))
      out.push_back(tensor_of(tensor.name.substr(0, at) + ".ffn_gate_inp.weight",
                              {experts, tensor.columns()}, "f32"));
    if (expert) {
      const std::string stem = tensor.name.substr(0, tensor.name.size() - 7);  // ".weight"
      tensor =
          tensor_of(stem + "_exps.weight", {experts, tensor.shape[0], tensor.shape[1]}, "bf16");
    }
    out.push_back(std::move(tensor));
  }
  return out;
}

/// tokenizer.ggml.*, or as many bytes as they would have about.
Status add_vocabulary(const NoSource& source, Shapes& shapes, Metadata& metadata) {
  if (!source.hf()->tokenizer_json.empty()) {
    NIBBLE_TRY_IN(source.path(), const Tokenizer tokenizer, Tokenizer::open(source));
    return tokenizer.to_gguf(metadata, shapes.config.vocab);
  }
  metadata.set("tokenizer.ggml.tokens",
               std::vector<std::uint8_t>(shapes.config.vocab * kVocabularyBytes));
  shapes.notes.push_back(fmt::format(
      "without a tokenizer.json the vocabulary in the file is estimated, at {} bytes an entry",
      kVocabularyBytes));
  return {};
}

/// Mixtral is a Llama with several feed-forward networks.
Result<Shapes> shapes_of(const std::string& path, HfFiles files) {
  Json config = files.config;
  NIBBLE_TRY(const std::string name, hf_architecture(config));
  const bool mixture = name == "MixtralForCausalLM";
  if (mixture) config["architectures"] = {"LlamaForCausalLM"};
  const Arch* arch = find_arch_by_hf(mixture ? "LlamaForCausalLM" : name);
  if (!arch)
    return fail(ErrorCode::unsupported, "field 'architectures' is '{}', which nibble does not know",
                name);
  Shapes shapes;
  shapes.weights = false;
  NIBBLE_TRY(shapes.config, arch->from_hf(config));
  Graph graph = arch->graph(shapes.config);
  std::vector<TensorInfo> tensors = tensors_of(graph);
  Metadata metadata;
  arch->to_gguf(shapes.config, metadata);
  metadata.set("general.type", std::string("model"));
  metadata.set("general.name", fs::path(path).filename().string());
  if (mixture) {
    NIBBLE_TRY(
        const std::uint32_t experts,
        in_range("num_local_experts", json_uint(config, "num_local_experts"), 1, kMostExperts));
    metadata.set(shapes.config.arch + ".expert_count", experts);
    tensors = with_experts(std::move(tensors), experts);
    shapes.notes.push_back(
        "nibble can neither quantize nor run mixtures of experts yet: sizes are those of the files "
        "that its levels would make, memory is for weights and keys and values alone");
  } else {
    shapes.graph = std::move(graph);
  }
  NoSource source(path, std::move(files));
  NIBBLE_DO(add_vocabulary(source, shapes, metadata));
  shapes.checkpoint = std::make_unique<ConfigCheckpoint>(std::move(source), std::move(metadata),
                                                         std::move(tensors));
  return shapes;
}

Result<HfFiles> read_config(const std::string& path) {
  if (fs::path(path).filename() == "config.json")
    return read_hf_files(fs::path(path).has_parent_path() ? fs::path(path).parent_path().string()
                                                          : ".");
  NIBBLE_TRY(const std::string text, read_text(path, kLargestConfig));
  HfFiles files;
  NIBBLE_TRY_IN(path, files.config, parse_json(text));
  return files;
}

/// A directory with a config.json and no weights.
bool only_config(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored) || !fs::exists(fs::path(path) / "config.json", ignored))
    return false;
  return std::ranges::none_of(fs::directory_iterator(path, ignored), [](const auto& entry) {
    const std::string name = entry.path().filename().string();
    return name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
  });
}

/// What the cache of an unknown architecture depends on, by the usual keys.
ModelConfig config_of(const Metadata& metadata, const PlanInput& input) {
  const auto number = [&](const char* key) {
    const auto value = metadata.uint_or(input.arch + "." + key, 0);
    return value ? std::uint32_t(std::min<std::uint64_t>(*value, 1u << 28)) : 0;
  };
  ModelConfig out{.arch = input.arch,
                  .layers = std::uint32_t(input.layers),
                  .hidden = number("embedding_length"),
                  .heads = std::uint32_t(std::max(1, input.heads)),
                  .kv_heads = std::uint32_t(input.kv_heads),
                  .head_dim = number("attention.key_length"),
                  .context = number("context_length")};
  if (out.head_dim == 0) out.head_dim = out.hidden / out.heads;
  return out;
}

}  // namespace

Result<Shapes> open_shapes(const std::string& path) {
  if (path.ends_with(".json") || only_config(path)) {
    NIBBLE_TRY(HfFiles files, path.ends_with(".json") ? read_config(path) : read_hf_files(path));
    NIBBLE_TRY_IN(path, Shapes shapes, shapes_of(path, std::move(files)));
    return shapes;
  }
  Shapes shapes;
  NIBBLE_TRY(shapes.checkpoint, Checkpoint::open(path));
  if (const auto model = Model::open(path)) {
    shapes.config = model->config();
    shapes.graph = model->graph();
    return shapes;
  }
  shapes.config =
      config_of(shapes.checkpoint->source().metadata(), shapes.checkpoint->plan_input());
  shapes.notes.push_back(fmt::format(
      "nibble cannot run the architecture '{}': memory is for weights and keys and values alone",
      shapes.config.arch));
  return shapes;
}

}  // namespace nibble
