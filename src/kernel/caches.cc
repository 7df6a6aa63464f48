#include "kernel/caches.h"

#include <algorithm>

namespace nibble {

std::span<const CacheOps> cache_types() { return ops().caches; }

std::string cache_type_names() {
  std::string out;
  for (const CacheOps& each : cache_types())
    out += (out.empty() ? "" : ", ") + std::string(each.type);
  return out;
}

Result<const CacheOps*> find_cache(std::string_view type, Precision precision) {
  if (type.empty()) type = precision == Precision::exact ? "f32" : "f16";
  const auto found = std::ranges::find(cache_types(), type, &CacheOps::type);
  if (found == cache_types().end())
    return fail(ErrorCode::invalid, "no cache of type '{}': there are {}", type,
                cache_type_names());
  return &*found;
}

}  // namespace nibble
