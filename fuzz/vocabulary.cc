// A tokenizer in the metadata of a GGUF.
#include "container/gguf_parse.h"
#include "fuzz/text.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto header = nibble::parse_gguf({reinterpret_cast<const std::byte*>(data), size});
  if (!header) return 0;
  if (const auto tokenizer = nibble::Tokenizer::from_gguf(header->metadata);
      nibble::good(tokenizer))
    nibble::exercise(*tokenizer, "he\u2581 hello <s> \u00e9\n 12");
  return 0;
}
