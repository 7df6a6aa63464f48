#include "container/gguf_split.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace nibble {
namespace {

constexpr std::string_view kPattern = "-#####-of-#####.gguf";  // # is a digit

}  // namespace

std::optional<SplitName> parse_split_name(const std::string& path) {
  if (path.size() <= kPattern.size()) return std::nullopt;
  const std::string_view tail = std::string_view(path).substr(path.size() - kPattern.size());
  const bool matches = std::equal(tail.begin(), tail.end(), kPattern.begin(), [](char c, char p) {
    return p == '#' ? c >= '0' && c <= '9' : c == p;
  });
  if (!matches) return std::nullopt;
  const std::string_view digits = tail.substr(kPattern.rfind('-') + 1, 5);
  return SplitName{path.substr(0, path.size() - kPattern.size()), std::stoull(std::string(digits))};
}

std::string split_name(const std::string& prefix, std::uint64_t index, std::uint64_t count) {
  return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, index + 1, count);
}

}  // namespace nibble
