#include "container/safetensors_index.h"

#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"

namespace nibble {

Result<SafetensorsIndex> parse_safetensors_index(std::string_view json) {
  NIBBLE_TRY(const Json index, parse_json(json));
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object() || map->empty())
    return fail(ErrorCode::corrupt, "field 'weight_map' is not an object with tensors");
  SafetensorsIndex shards;
  for (const auto& [name, shard] : map->items()) {
    const std::string file = shard.is_string() ? shard.get<std::string>() : "";
    if (!file.ends_with(".safetensors") || file.find('/') != std::string::npos ||
        file.find('\0') != std::string::npos)
      return fail(ErrorCode::corrupt,
                  "weight_map: {} names {}, expected the name of a .safetensors file", quote(name),
                  quote(file));
    shards.emplace_back(name, file);
  }
  return shards;
}

Result<SafetensorsIndex> read_safetensors_index(const std::string& path) {
  constexpr std::uint64_t kLargest = 128u << 20;
  NIBBLE_TRY(const std::string text, read_text(path, kLargest));
  NIBBLE_TRY_IN(path, SafetensorsIndex index, parse_safetensors_index(text));
  return index;
}

}  // namespace nibble
