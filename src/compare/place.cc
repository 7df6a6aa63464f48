#include "compare/place.h"

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/file.h"

namespace nibble {
namespace {

constexpr std::string_view kGguf = "gguf:";

/// A name that stays in its directory and needs no quotes in a shell.
std::string file_name(std::string_view name) {
  std::string out(name);
  for (char& c : out) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!plain && c != '.' && c != '_' && c != '+') c = '-';
  }
  if (out.front() == '.') out.front() = '-';
  return out;
}

}  // namespace

Result<std::vector<CompareTarget>> parse_targets(const std::vector<std::string>& targets) {
  std::vector<CompareTarget> out;
  std::set<std::string> entries;
  for (const std::string& text : targets) {
    const bool gguf = text.starts_with(kGguf);
    const std::string name = gguf ? text.substr(kGguf.size()) : text;
    if (name.empty())
      return fail(ErrorCode::invalid, "'{}' is no target; say Q4_K_M or gptq:int4-g128", text);
    const bool directory = !gguf && name.find(':') != std::string::npos;
    CompareTarget target{name, file_name(name) + (directory ? "" : ".gguf"), !directory};
    if (!entries.insert(target.entry).second)
      return fail(ErrorCode::invalid, "{} is asked for twice", name);
    out.push_back(std::move(target));
  }
  return out;
}

std::vector<std::string> names_of(const std::vector<std::string>& paths) {
  const auto last = [](const std::string& path) {
    const std::filesystem::path normal = std::filesystem::path(path).lexically_normal();
    return (normal.has_filename() ? normal : normal.parent_path()).filename().string();
  };
  std::vector<std::string> out;
  for (const std::string& path : paths) out.push_back(last(path));
  const std::vector<std::string> short_names = out;
  for (std::size_t i = 0; i < paths.size(); ++i)
    if (out[i].empty() || std::count(short_names.begin(), short_names.end(), out[i]) > 1)
      out[i] = paths[i];
  return out;
}

Place::~Place() {
  std::error_code ignored;
  if (path_.empty()) return;
  if (!kept_)
    std::filesystem::remove_all(path_, ignored);
  else if (made_)
    std::filesystem::remove(path_, ignored);  // not where something is in it
}

Result<Place> Place::make(const std::string& keep, const std::string& scratch) {
  if (!keep.empty()) {
    std::error_code error;
    const bool made = std::filesystem::create_directory(keep, error);
    if (error || !std::filesystem::is_directory(keep, error))
      return fail(ErrorCode::io, "{}: cannot make this directory{}{}", keep, error ? ": " : "",
                  error ? error.message() : "");
    return Place(keep, true, made);
  }
  std::string path = (scratch.empty() ? "." : scratch) + "/nibble-compare-XXXXXX";
  if (!::mkdtemp(path.data())) return system_error(path, "cannot make a directory");
  return Place(path, false, true);
}

}  // namespace nibble
