// tokenizer.json, tokenizer_config.json and a text, between zero bytes: read, used, written in
// GGUF's form and read again.
#include "text/tokenizer.h"

#include "fuzz/text.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [json, config, text] = nibble::parts<3>(data, size);
  nibble::HfFiles files;
  files.tokenizer_json = json;
  if (auto parsed = nibble::parse_json(config)) files.tokenizer_config = std::move(*parsed);
  const auto tokenizer = nibble::Tokenizer::from_hf(files);
  if (!nibble::good(tokenizer)) return 0;
  nibble::exercise(*tokenizer, text);
  nibble::Metadata metadata;
  if (!tokenizer->to_gguf(metadata, 512)) return 0;
  if (const auto again = nibble::Tokenizer::from_gguf(metadata); nibble::good(again))
    nibble::exercise(*again, text);
  return 0;
}
