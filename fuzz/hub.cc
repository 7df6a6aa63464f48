// What a hub answers and what users type: whatever is accepted stays inside its directory.
#include "container/hub.h"

#include <filesystem>

#include "base/result.h"
#include "container/hub_listing.h"
#include "container/safetensors_index.h"

namespace {

void check_inside(const std::string& path) {
  const std::filesystem::path joined = (std::filesystem::path("/cache") / path).lexically_normal();
  NIBBLE_CHECK(joined.string().starts_with("/cache/"));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto listing = nibble::parse_listing(text)) {
    check_inside(listing->commit);
    for (const auto& file : listing->files) check_inside(file.path);
  }
  if (const auto index = nibble::parse_safetensors_index(text))
    for (const auto& [tensor, file] : *index) check_inside(file);
  if (const auto name = nibble::parse_hub_name(text)) {
    check_inside(name->repository);
    if (!name->file.empty()) check_inside(name->file);
  }
  return 0;
}
