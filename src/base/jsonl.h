// Files of one JSON object a line.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace nibble {

/// At most `limit` objects (0: all); empty lines are skipped. Errors name the file and the line.
Result<std::vector<Json>> read_jsonl(const std::string& path, std::uint64_t limit);

}  // namespace nibble
