#include "base/jsonl.h"

#include <sstream>

#include "base/file.h"

namespace nibble {

Result<std::vector<Json>> read_jsonl(const std::string& path, std::uint64_t limit) {
  NIBBLE_TRY(const std::string text, read_text(path));
  std::istringstream lines(text);
  std::vector<Json> out;
  std::string line;
  for (std::uint64_t number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = fmt::format("{}: line {}", path, number);
    NIBBLE_TRY_IN(where, Json object, parse_json(line));
    if (!object.is_object()) return fail(ErrorCode::corrupt, "{}: not a JSON object", where);
    out.push_back(std::move(object));
    if (limit > 0 && out.size() == limit) break;
  }
  if (out.empty())
    return fail(ErrorCode::invalid, "{}: no items; expected one JSON object a line", path);
  return out;
}

}  // namespace nibble
