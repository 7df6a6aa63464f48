// A vocabulary in the two forms that files hold it in: tokenizer.json, and GGUF's tokenizer.ggml.*
// keys.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "container/metadata.h"

namespace nibble {

/// Sets tokenizer.ggml.{model, pre, tokens, token_type, scores, merges, add_space_prefix} from a
/// parsed tokenizer.json. `vocab` tokens are written: ids that the file leaves out become unused
/// ones. Errors: kinds that GGUF cannot express.
Status vocab_to_gguf(const Json& tokenizer, std::uint32_t vocab, Metadata& metadata);

/// The inverse: a tokenizer.json that encodes as llama.cpp does from these keys (models "gpt2" and
/// "llama").
Result<Json> vocab_from_gguf(const Metadata& metadata);

}  // namespace nibble
