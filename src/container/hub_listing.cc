#include "container/hub_listing.h"

#include <algorithm>

#include "base/json.h"
#include "base/utf8.h"

namespace nibble {
namespace {

Result<RemoteFile> read_sibling(const Json& object) {
  RemoteFile file;
  NIBBLE_TRY(file.path, json_string(object, "rfilename"));
  NIBBLE_TRY_IN(quote(file.path), file.size, json_uint(object, "size"));
  NIBBLE_TRY(file.blob, json_string_or(object, "blobId", ""));
  if (const auto lfs = object.find("lfs"); lfs != object.end() && lfs->is_object()) {
    NIBBLE_TRY_IN(quote(file.path), file.sha256, json_string_or(*lfs, "sha256", ""));
    file.blob.clear();  // names the pointer, not the content
  }
  return file;
}

}  // namespace

const RemoteFile* Listing::find(std::string_view path) const {
  const auto it = std::find_if(files.begin(), files.end(),
                               [&](const RemoteFile& file) { return file.path == path; });
  return it == files.end() ? nullptr : &*it;
}

Result<Listing> parse_listing(std::string_view json) {
  NIBBLE_TRY(const Json answer, parse_json(json));
  Listing listing;
  NIBBLE_TRY(listing.commit, json_string(answer, "sha"));
  if (!is_plain_name(listing.commit))
    return fail(ErrorCode::corrupt, "field 'sha' is {}", quote(listing.commit));
  const auto siblings = answer.find("siblings");
  if (siblings == answer.end() || !siblings->is_array())
    return fail(ErrorCode::corrupt, "field 'siblings' is not a list");
  for (const Json& sibling : *siblings) {
    NIBBLE_TRY_IN("siblings", RemoteFile file, read_sibling(sibling));
    if (is_safe_path(file.path)) listing.files.push_back(std::move(file));
  }
  return listing;
}

bool is_safe_path(std::string_view path) {
  if (path.empty() || path.size() > 512 || !is_utf8(path)) return false;
  for (const char c : path)
    if (std::uint8_t(c) < 0x20 || c == 0x7f || c == '\\' || c == ':') return false;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view component = path.substr(begin, end - begin);
    if (component.empty() || component == "." || component == "..") return false;
    begin = end + 1;
  }
  return true;
}

bool is_plain_name(std::string_view text) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !text.empty() && text.size() <= 96 && text[0] != '.' && text.find("..") == text.npos &&
         std::all_of(text.begin(), text.end(), allowed);
}

}  // namespace nibble
