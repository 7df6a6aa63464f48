// Pre-tokenizers: how byte-level BPE cuts a text into words before merging. GGUF names them,
// tokenizer.json describes them; nibble recognises the description by its structure.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace nibble {

/// The name that GGUF gives to this structure. `ignore_merges`: words found whole in the vocabulary
/// are not merged. Error: no name fits; the message shows the structure.
Result<std::string> pre_tokenizer_name(const Json& pre_tokenizer, bool ignore_merges);

struct PreTokenizer {
  Json pre_tokenizer;  // as in tokenizer.json
  Json normalizer;     // null, or what models of this kind have
  bool ignore_merges = false;
};

/// The structure behind a GGUF name ("llama-bpe", "smollm", ...). Error: unknown name.
Result<PreTokenizer> pre_tokenizer_of(std::string_view name);

}  // namespace nibble
