// Ollama's store: blobs/sha256-HEX holds every part of a model under its hash, and
// manifests/registry.ollama.ai/library/NAME/TAG lists the parts of one model as JSON.
#include <algorithm>
#include <filesystem>
#include <optional>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "container/gguf_split.h"
#include "container/source.h"
#include "export/modelfile.h"
#include "export/place.h"
#include "plan/levels.h"
#include "text/tokenizer.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

constexpr char kRegistry[] = "registry.ollama.ai";
constexpr std::size_t kLongestName = 80;
constexpr std::size_t kMostStops = 16;

struct Name {
  std::string owner = "library", model, tag = "latest";
};

bool is_name_part(std::string_view text) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !text.empty() && text.size() <= kLongestName && plain(text.front()) &&
         std::ranges::all_of(text,
                             [&](char c) { return plain(c) || c == '-' || c == '_' || c == '.'; });
}

Result<Name> parse_name(const std::string& text) {
  Name name;
  std::string rest = text;
  if (const auto colon = rest.find(':'); colon != rest.npos)
    name.tag = rest.substr(colon + 1), rest.resize(colon);
  if (const auto slash = rest.find('/'); slash != rest.npos)
    name.owner = rest.substr(0, slash), rest.erase(0, slash + 1);
  name.model = rest;
  for (const std::string& part : {name.owner, name.model, name.tag})
    if (!is_name_part(part))
      return fail(
          ErrorCode::invalid,
          "'{}' is no name for Ollama: expected [OWNER/]NAME[:TAG] of letters, digits, '-', "
          "'_' and '.'",
          text);
  return name;
}

std::string sha256_of(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex();
}

/// Of a file, in pieces, with progress.
Result<std::string> sha256_of_file(const std::string& path, Progress& progress) {
  constexpr std::uint64_t kPiece = 16u << 20;
  NIBBLE_TRY(const MappedFile file, MappedFile::open(path));
  Sha256 hash;
  progress.begin("hashing", file.size(), "bytes");
  for (std::uint64_t at = 0; at < file.size(); at += kPiece) {
    const std::uint64_t count = std::min(kPiece, file.size() - at);
    hash.update(file.bytes().subspan(at, count));
    file.release(at, count);
    progress.update(at + count);
    if (progress.cancelled()) return fail(ErrorCode::cancelled, "stopped while hashing");
  }
  progress.end();
  return hash.hex();
}

/// "135M", "7.24B": as Ollama shows sizes.
std::string human_count(std::uint64_t n) {
  if (n >= 1000000000) return fmt::format("{:.1f}B", double(n) * 1e-9);
  if (n >= 1000000) return fmt::format("{:.2f}M", double(n) * 1e-6);
  return fmt::format("{}", n);
}

/// Texts of the tokens that end an answer.
std::vector<std::string> stops_of(const Tokenizer& tokenizer) {
  std::vector<std::string> out;
  for (Token token = 0; token < tokenizer.vocab_size() && out.size() < kMostStops; ++token)
    if (tokenizer.ends_generation(token)) out.push_back(tokenizer.token_bytes(token));
  return out;
}

/// What the GGUF says of itself.
struct Described {
  Modelfile modelfile;
  std::string architecture, level, parameters;
};

Status add_template(const Tokenizer& tokenizer, const OllamaOptions& options, Modelfile& modelfile,
                    ExportReport& report) {
  modelfile.template_text = options.template_text;
  if (!options.template_text.empty()) return {};
  if (!tokenizer.has_chat_template()) {
    report.notes.push_back(
        "the model has no chat template: Ollama will give it prompts as they are");
    return {};
  }
  const auto form = chat_form_of(tokenizer);
  if (!form)
    return fail(ErrorCode::unsupported,
                "{}: tokenizer.chat_template: no template for Ollama says the same: {}; give one "
                "with --template FILE",
                options.model, form.error().message());
  if (!form->begin_system)
    report.notes.push_back(
        "the model's chat template takes no system message: Ollama's is left out");
  report.notes.push_back("the template for Ollama has no part for tools");
  modelfile.template_text = ollama_template(*form);
  return {};
}

Result<Described> describe(const OllamaOptions& options, ExportReport& report) {
  NIBBLE_TRY(const auto source, open_source(options.model));
  if (source->container() != "gguf" || source->files().size() != 1)
    return fail(ErrorCode::invalid, "{}: expected a GGUF file that is not split", options.model);
  const Metadata& metadata = source->metadata();
  Described out;
  NIBBLE_TRY_IN(options.model, out.architecture, metadata.text("general.architecture"));
  std::uint64_t parameters = 0;
  for (const TensorInfo& tensor : source->tensors()) parameters += tensor.elements();
  out.parameters = human_count(parameters);
  out.level = "unknown";
  if (const auto type = metadata.uint("general.file_type"))
    for (const Level& level : level_table())
      if (level.file_type == *type) out.level = level.name;
  Modelfile& modelfile = out.modelfile;
  modelfile.system = options.system;
  modelfile.license = options.license;
  if (modelfile.license.empty()) {
    NIBBLE_TRY_IN(options.model, modelfile.license, metadata.text_or("general.license", ""));
  }
  const std::string key = out.architecture + ".context_length";
  NIBBLE_TRY_IN(options.model, const std::uint64_t most, metadata.uint_or(key, options.context));
  modelfile.context = std::uint32_t(std::min<std::uint64_t>(most, options.context));
  NIBBLE_TRY_IN(options.model, const Tokenizer tokenizer, Tokenizer::open(*source));
  modelfile.stop = stops_of(tokenizer);
  NIBBLE_DO(add_template(tokenizer, options, modelfile, report));
  report.template_text = modelfile.template_text;
  report.stop = modelfile.stop;
  return out;
}

/// Puts parts of a model into the store and lists them.
class Store {
 public:
  Store(std::string path, ExportReport& report) : path_(std::move(path)), report_(report) {}

  std::string blob(const std::string& sha256) const {
    return (fs::path(path_) / "blobs" / ("sha256-" + sha256)).string();
  }

  /// A blob's name is its hash, so one that is there and whole is the same.
  Result<OrderedJson> add_file(const std::string& media, const std::string& file,
                               const std::string& sha256) {
    std::error_code ignored;
    const std::uint64_t bytes = fs::file_size(file, ignored);
    NIBBLE_DO(add(sha256, bytes, [&] { return place_file(file, blob(sha256), true); }));
    return entry(media, sha256, bytes);
  }

  Result<OrderedJson> add_text(const std::string& media, const std::string& text) {
    const std::string sha256 = sha256_of(std::as_bytes(std::span(text)));
    NIBBLE_DO(add(sha256, text.size(), [&] { return place_text(text, blob(sha256), true); }));
    return entry(media, sha256, text.size());
  }

 private:
  template <class Place>
  Status add(const std::string& sha256, std::uint64_t bytes, const Place& place) {
    std::error_code error;
    const bool whole = fs::file_size(blob(sha256), error) == bytes && !error;
    ExportedFile file{blob(sha256), bytes, ExportedFile::How::there_already};
    if (!whole) {
      NIBBLE_TRY(file, place());
    }
    report_.files.push_back(std::move(file));
    return {};
  }

  static OrderedJson entry(const std::string& media, const std::string& sha256,
                           std::uint64_t bytes) {
    return {{"mediaType", media}, {"digest", "sha256:" + sha256}, {"size", bytes}};
  }

  std::string path_;
  ExportReport& report_;
};

std::string config_json(const Described& described, const OrderedJson& layers) {
  OrderedJson digests = OrderedJson::array();
  for (const OrderedJson& layer : layers) digests.push_back(layer["digest"]);
  return OrderedJson({{"model_format", "gguf"},
                      {"model_family", described.architecture},
                      {"model_families", {described.architecture}},
                      {"model_type", described.parameters},
                      {"file_type", described.level},
                      {"architecture", "amd64"},
                      {"os", "linux"},
                      {"rootfs", {{"type", "layers"}, {"diff_ids", digests}}}})
      .dump();
}

/// Blobs first, the manifest last: what it lists is there.
Status fill_store(const OllamaOptions& options, const Described& described,
                  const std::string& manifest, const std::string& sha256, ExportReport& report) {
  const std::string image = "application/vnd.ollama.image.";
  const Modelfile& modelfile = described.modelfile;
  Store store(options.store, report);
  OrderedJson layers = OrderedJson::array();
  NIBBLE_TRY(OrderedJson model, store.add_file(image + "model", options.model, sha256));
  layers.push_back(std::move(model));
  const std::pair<const char*, std::string> texts[] = {{"template", modelfile.template_text},
                                                       {"system", modelfile.system},
                                                       {"params", parameters_json(modelfile)},
                                                       {"license", modelfile.license}};
  for (const auto& [kind, text] : texts) {
    if (text.empty()) continue;
    NIBBLE_TRY(OrderedJson layer, store.add_text(image + kind, text));
    layers.push_back(std::move(layer));
  }
  NIBBLE_TRY(OrderedJson config, store.add_text("application/vnd.docker.container.image.v1+json",
                                                config_json(described, layers)));
  const OrderedJson document = {
      {"schemaVersion", 2},
      {"mediaType", "application/vnd.docker.distribution.manifest.v2+json"},
      {"config", std::move(config)},
      {"layers", std::move(layers)}};
  NIBBLE_TRY(ExportedFile written, place_text(document.dump(), manifest, options.force));
  report.files.push_back(std::move(written));
  return {};
}

}  // namespace

Result<ExportReport> export_ollama(const OllamaOptions& options, Progress& progress) {
  ExportReport report;
  NIBBLE_TRY(const Name name, parse_name(options.name));
  const std::string manifest =
      (fs::path(options.store) / "manifests" / kRegistry / name.owner / name.model / name.tag)
          .string();
  std::error_code ignored;
  for (const std::string& path : {options.store.empty() ? "" : manifest, options.modelfile})
    if (!options.force && !path.empty() && fs::exists(path, ignored))
      return fail(ErrorCode::invalid, "{}: exists already; --force replaces it", path);
  NIBBLE_TRY(Described described, describe(options, report));
  described.modelfile.from = fs::absolute(options.model).string();
  NIBBLE_TRY(const std::string text, to_text(described.modelfile));
  if (!options.store.empty()) {
    NIBBLE_TRY(const std::string sha256, sha256_of_file(options.model, progress));
    NIBBLE_DO(fill_store(options, described, manifest, sha256, report));
  }
  if (!options.modelfile.empty()) {
    NIBBLE_TRY(ExportedFile written, place_text(text, options.modelfile, options.force));
    report.files.push_back(std::move(written));
  }
  return report;
}

}  // namespace nibble
