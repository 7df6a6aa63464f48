// Files in the directories of other programs: never half written, never replaced unasked.
#pragma once

#include <string>

#include "base/result.h"
#include "nibble/export.h"

namespace nibble {

/// Makes directories up to `path`'s.
Status make_folder_of(const std::string& path);

/// `from` under another name: a hard link where the file system allows one, else a copy. Both get
/// their name at once. An error if something is there, unless `force`.
Result<ExportedFile> place_file(const std::string& from, const std::string& to, bool force);

/// The same with a text.
Result<ExportedFile> place_text(const std::string& text, const std::string& to, bool force);

}  // namespace nibble
