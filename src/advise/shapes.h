// A model as far as shapes go: from a checkpoint, or from its configuration alone.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "arch/graph.h"
#include "quantize/checkpoint.h"

namespace nibble {

struct Shapes {
  std::unique_ptr<Checkpoint> checkpoint;  // whose values are never read
  ModelConfig config;                      // of what nibble cannot run: what the cache depends on
  std::optional<Graph> graph;              // none: nibble cannot run it
  bool weights = true;                     // the values are there
  std::vector<std::string> notes = {};
};

/// `path`: whatever nibble opens, a config.json, or a directory with only that.
Result<Shapes> open_shapes(const std::string& path);

}  // namespace nibble
