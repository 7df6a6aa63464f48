// Tokenizers for small models.
#pragma once

#include <fmt/format.h>

#include "base/json.h"

namespace nibble {

/// tokenizer.json: byte-level BPE of `size` tokens.
inline Json tokenizer_json(int size) {
  Json vocab = Json::object();
  for (int i = 0; i < size; ++i) vocab[fmt::format("t{}", i)] = i;
  const Json model = {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}};
  const Json cut = {{"type", "ByteLevel"},
                    {"add_prefix_space", false},
                    {"trim_offsets", true},
                    {"use_regex", true}};
  return {{"version", "1.0"},
          {"added_tokens", Json::array()},
          {"pre_tokenizer", cut},
          {"decoder", cut},
          {"model", model}};
}

}  // namespace nibble
