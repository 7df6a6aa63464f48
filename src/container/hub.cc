#include "container/hub.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <vector>

#include "base/checked.h"
#include "base/file.h"
#include "base/utf8.h"
#include "container/gguf_split.h"
#include "container/hub_file.h"
#include "container/hub_listing.h"
#include "container/safetensors_index.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kLargestListing = 64u << 20;
constexpr std::uint64_t kLargestSmallFile = 256u << 20;
constexpr char kConfig[] = "config.json";
constexpr std::string_view kDescription[] = {kConfig, "generation_config.json", "tokenizer.json",
                                             "tokenizer_config.json", "chat_template.jinja"};

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

HubOptions with_defaults(HubOptions options) {
  if (options.endpoint.empty()) options.endpoint = environment("HF_ENDPOINT");
  if (options.endpoint.empty()) options.endpoint = "https://huggingface.co";
  while (options.endpoint.ends_with('/')) options.endpoint.pop_back();
  if (options.token.empty()) options.token = environment("HF_TOKEN");
  if (options.cache.empty()) options.cache = environment("NIBBLE_CACHE");
  if (!options.cache.empty()) return options;
  const std::string xdg = environment("XDG_CACHE_HOME");
  options.cache = (xdg.empty() ? environment("HOME") + "/.cache" : xdg) + "/nibble";
  return options;
}

/// Percent-encoded; slashes too unless they are kept.
std::string url_encode(const std::string& text, bool keep_slashes) {
  std::string out;
  for (const char c : text) {
    if ((c == '/' && keep_slashes) || is_plain_name(std::string_view(&c, 1)) || c == '.')
      out += c;
    else
      out += fmt::format("%{:02X}", std::uint8_t(c));
  }
  return out;
}

class Pull {
 public:
  Pull(const HubName& name, const HubOptions& options, Progress& progress)
      : name_(name), options_(options), progress_(progress) {}

  Result<std::string> run() {
    if (auto listed = list(); !listed) return from_cache(listed.error());
    directory_ = fs::path(options_.cache) / "hub" / name_.repository / listing_.commit;
    NIBBLE_TRY(std::string path, select());
    NIBBLE_DO(write_text(last_pull(), path));
    return path;
  }

 private:
  static bool is_tensors(const RemoteFile& file) {
    return file.path.ends_with(".safetensors") && file.path.find('/') == file.path.npos;
  }

  /// Remembers where the last pull of this name and revision went, for times without a network.
  std::string last_pull() const {
    const std::string what = options_.weights ? name_.file : name_.file + ":config";
    const std::string key = url_encode(name_.revision + ":" + what, false);
    return (fs::path(options_.cache) / "hub" / name_.repository / (key + ".last")).string();
  }

  Result<std::string> from_cache(const Error& error) {
    std::error_code ignored;
    const auto path = read_text(last_pull(), 1 << 16);
    if (error.code() != ErrorCode::io || !path || !fs::exists(*path, ignored))
      return tl::unexpected<Error>(error);
    progress_.note(error.message() + "; using the copy of an earlier pull");
    return *path;
  }

  Result<std::string> select() {
    if (!name_.file.empty()) return pull_gguf(name_.file);
    const bool checkpoint = std::any_of(listing_.files.begin(), listing_.files.end(),
                                        [](const RemoteFile& file) { return is_tensors(file); });
    return checkpoint ? pull_checkpoint() : pull_gguf("");
  }

  tl::unexpected<Error> unusable(const std::string& reason) const {
    return fail(ErrorCode::unsupported, "{}: {}", name_.repository, reason);
  }

  Status list() {
    std::string text;
    const auto sink = [&](std::uint64_t offset, std::span<const std::byte> bytes) -> Status {
      text.resize(offset);
      text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      return {};
    };
    const std::string url =
        fmt::format("{}/api/models/{}/revision/{}?blobs=true", options_.endpoint, name_.repository,
                    url_encode(name_.revision, false));
    NIBBLE_TRY([[maybe_unused]] const auto reply,
               http_get_patiently(
                   {.url = url, .token = options_.token, .limit = kLargestListing}, sink,
                   [] { return std::uint64_t(0); }, progress_));
    NIBBLE_TRY_IN(url, listing_, parse_listing(text));
    return {};
  }

  std::string local(const std::string& path) const { return (directory_ / path).string(); }

  Status download(const std::vector<const RemoteFile*>& files) {
    std::uint64_t total = 0, done = 0;
    for (const RemoteFile* file : files) {
      NIBBLE_TRY_IN(file->path, total, checked_add(total, file->size));
    }
    progress_.begin("downloading " + name_.repository, total, "bytes");
    for (const RemoteFile* file : files) {
      const std::string url =
          fmt::format("{}/{}/resolve/{}/{}", options_.endpoint, name_.repository, listing_.commit,
                      url_encode(file->path, true));
      NIBBLE_DO(download_file(url, options_.token, *file, local(file->path), done, progress_));
      done += file->size;
      progress_.update(done);
    }
    progress_.end();
    return {};
  }

  /// Files that are read whole into memory.
  Status add_small(std::string_view path, std::vector<const RemoteFile*>& files) const {
    const RemoteFile* file = listing_.find(path);
    if (!file) return {};
    if (file->size > kLargestSmallFile)
      return fail(ErrorCode::unsupported, "{}: {} has {} bytes, at most {} are expected",
                  name_.repository, path, file->size, kLargestSmallFile);
    files.push_back(file);
    return {};
  }

  Result<std::string> pull_checkpoint() {
    std::vector<const RemoteFile*> files;
    for (const std::string_view path : kDescription) NIBBLE_DO(add_small(path, files));
    if (!options_.weights) {
      if (!listing_.find(kConfig)) return unusable("has no config.json");
      NIBBLE_DO(download(files));
      return local(kConfig);
    }
    if (listing_.find(kSafetensorsIndex)) {
      std::vector<const RemoteFile*> index;
      NIBBLE_DO(add_small(kSafetensorsIndex, index));
      NIBBLE_DO(download(index));
      NIBBLE_TRY(const auto shards, read_safetensors_index(local(kSafetensorsIndex)));
      std::set<std::string> names;
      for (const auto& [tensor, shard] : shards) names.insert(shard);
      for (const std::string& shard : names) {
        files.push_back(listing_.find(shard));
        if (!files.back()) return unusable("its index names " + quote(shard) + ", which is absent");
      }
    } else {
      NIBBLE_TRY(const RemoteFile* file, only_safetensors());
      files.push_back(file);
    }
    NIBBLE_DO(download(files));
    return directory_.string();
  }

  Result<const RemoteFile*> only_safetensors() const {
    if (const RemoteFile* file = listing_.find("model.safetensors")) return file;
    const RemoteFile* only = nullptr;
    for (const RemoteFile& file : listing_.files) {
      if (!is_tensors(file)) continue;
      if (only)
        return unusable("several .safetensors files, neither model.safetensors nor an index");
      only = &file;
    }
    return only;
  }

  /// The GGUF files that `wanted` names: exactly, else by a part of the name; every split once, by
  /// its first part.
  std::vector<std::string> ggufs(const std::string& wanted) const {
    if (wanted.ends_with(".gguf") && listing_.find(wanted)) return {wanted};
    const auto lower = [](std::string text) {
      std::transform(text.begin(), text.end(), text.begin(),
                     [](char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; });
      return text;
    };
    std::vector<std::string> found;
    for (const RemoteFile& file : listing_.files) {
      const auto split = parse_split_name(file.path);
      if (!file.path.ends_with(".gguf") ||
          lower(file.path).find(lower(wanted)) == std::string::npos)
        continue;
      if (!split || file.path == split_name(split->prefix, 0, split->count))
        found.push_back(file.path);
    }
    return found;
  }

  Result<std::string> pull_gguf(const std::string& wanted) {
    const std::vector<std::string> found = ggufs(wanted);
    if (found.empty())
      return unusable(wanted.empty() ? "holds neither .safetensors nor .gguf files"
                                     : "no .gguf file named like " + quote(wanted));
    if (found.size() > 1) {
      std::string choices;
      for (std::size_t i = 0; i < std::min<std::size_t>(found.size(), 12); ++i)
        choices += (i ? ", " : "") + found[i];
      return unusable(fmt::format("{} GGUF files; choose one, like {}:FILE, of: {}{}", found.size(),
                                  name_.repository, choices, found.size() > 12 ? ", ..." : ""));
    }
    std::vector<const RemoteFile*> files;
    const auto split = parse_split_name(found[0]);
    for (std::uint64_t i = 0; i < (split ? split->count : 1); ++i) {
      const std::string part = split ? split_name(split->prefix, i, split->count) : found[0];
      files.push_back(listing_.find(part));
      if (!files.back()) return unusable(quote(part) + " is absent");
    }
    NIBBLE_DO(download(files));
    return local(found[0]);
  }

  const HubName& name_;
  const HubOptions& options_;
  Progress& progress_;
  Listing listing_;
  fs::path directory_;
};

}  // namespace

std::optional<HubName> parse_hub_name(const std::string& text) {
  HubName name;
  std::string rest = text;
  if (const auto colon = rest.find(':'); colon != rest.npos) {
    name.file = rest.substr(colon + 1);
    if (!is_safe_path(name.file)) return std::nullopt;
    rest.resize(colon);
  }
  if (const auto at = rest.find('@'); at != rest.npos) {
    name.revision = rest.substr(at + 1);
    if (!is_safe_path(name.revision)) return std::nullopt;
    rest.resize(at);
  }
  const auto slash = rest.find('/');
  if (slash == rest.npos || !is_plain_name(rest.substr(0, slash)) ||
      !is_plain_name(rest.substr(slash + 1)))
    return std::nullopt;
  name.repository = rest;
  return name;
}

Result<std::string> pull(const HubName& name, const HubOptions& options, Progress& progress) {
  return Pull(name, with_defaults(options), progress).run();
}

Result<std::string> resolve_source(const std::string& name_or_path, const HubOptions& options,
                                   Progress& progress) {
  std::error_code ignored;
  if (fs::exists(name_or_path, ignored)) return name_or_path;
  const auto name = parse_hub_name(name_or_path);
  const bool file = !name || (name->file.empty() && (name->repository.ends_with(".gguf") ||
                                                     name->repository.ends_with(".safetensors")));
  if (file) return name_or_path;
  NIBBLE_TRY_IN(name_or_path + ": no such file here, and as a model's name", std::string path,
                pull(*name, options, progress));
  return path;
}

}  // namespace nibble
