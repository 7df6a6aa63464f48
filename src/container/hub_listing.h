// What a hub says a repository holds, and the names that users give. Everything here comes from
// outside.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace nibble {

struct RemoteFile {
  std::string path;  // inside the repository
  std::uint64_t size = 0;
  std::string sha256;  // of files in large-file storage
  std::string blob;    // git's SHA-1 of other files
};

/// The files of a repository at one commit; those whose paths are not safe are left out.
struct Listing {
  std::string commit;
  std::vector<RemoteFile> files;

  const RemoteFile* find(std::string_view path) const;
};

/// The answer to GET /api/models/ORG/NAME/revision/REVISION?blobs=true.
Result<Listing> parse_listing(std::string_view json);

/// True for relative paths of plain components: nothing that could leave the directory.
bool is_safe_path(std::string_view path);
/// True for letters, digits, '-', '_' and '.' (not first, not twice in a row), at most 96.
bool is_plain_name(std::string_view text);

}  // namespace nibble
