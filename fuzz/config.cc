// config.json of a Hugging Face checkpoint, through every architecture, on to the graph and to
// GGUF's keys.
#include <string_view>

#include "arch/arch.h"
#include "base/json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto json = nibble::parse_json({reinterpret_cast<const char*>(data), size});
  if (!json) return 0;
  for (const nibble::Arch* arch : nibble::arch_registry()) {
    const auto config = arch->from_hf(*json);
    if (!config) continue;
    (void)arch->tensor_rules(*config);
    (void)arch->graph(*config);
    nibble::Metadata metadata;
    arch->to_gguf(*config, metadata);
  }
  return 0;
}
