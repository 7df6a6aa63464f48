// A safetensors header.
#include "container/safetensors_parse.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  (void)nibble::parse_safetensors({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
