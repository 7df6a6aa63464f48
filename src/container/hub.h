// Models by name from a Hugging Face hub: org/name[@revision][:file].
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "nibble/progress.h"

namespace nibble {

struct HubName {
  std::string repository;         // "org/name"
  std::string revision = "main";  // branch, tag or commit
  std::string file;               // "Q4_K_M" or "x-Q4_K_M.gguf"; empty: the checkpoint
};

/// None if `text` does not have that form.
std::optional<HubName> parse_hub_name(const std::string& text);

struct HubOptions {
  std::string endpoint = {};  // empty: $HF_ENDPOINT, else https://huggingface.co
  std::string token = {};     // empty: $HF_TOKEN, else none
  std::string cache = {};     // empty: $NIBBLE_CACHE, else nibble/ in $XDG_CACHE_HOME or ~/.cache
  bool weights = true;        // of a checkpoint; false: its description alone
};

/// Downloads what nibble needs of a model: the safetensors with their config and tokenizer, or one
/// GGUF file (with all parts of a split). Interrupted downloads go on where they stopped; every
/// file is checked by size and hash before it gets its name. Returns the path for open_source: the
/// directory, or the GGUF file; without weights, that of the config.json. Files lie in
/// <cache>/hub/org/name/<commit>/. When the hub can't be reached, what an earlier pull of the same
/// name brought is used, with a note.
Result<std::string> pull(const HubName& name, const HubOptions& options, Progress& progress);

/// What a user gave as a model: a path that exists stays as it is, org/name is pulled, and anything
/// else stays too, for open_source to complain about.
Result<std::string> resolve_source(const std::string& name_or_path, const HubOptions& options,
                                   Progress& progress);

}  // namespace nibble
