// Which tensor gets which format, and why.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "container/scheme.h"
#include "container/source.h"
#include "plan/levels.h"
#include "plan/pattern.h"

namespace nibble {

/// What a plan needs to know of a model.
struct PlanInput {
  std::string arch;  // general.architecture
  int layers = 0, heads = 0, kv_heads = 0, experts = 0;
  std::vector<TensorInfo> tensors;  // GGUF names and order, formats as stored
};

/// "ffn_down=q6_k": matrices whose name the pattern is found in get that format. First match wins.
struct Override {
  std::string text;  // where it comes from: "--override ffn_down=q6_k"
  Pattern pattern;
  const Format* format;
};
Result<Override> parse_override(std::string_view text);

/// What the matrices become: a level, one format for all of them, or what they are.
struct Target {
  const Level* level = nullptr;
  const Format* format = nullptr;
  std::shared_ptr<const Packer> packer = {};  // of a Hugging Face checkpoint in this format
  std::string text = {};                      // what was said, if it is one
  bool keep() const { return !level && !format; }
  std::string name() const;
};
/// Levels in any case except where the same letters in lower case are a format: "Q4_0" is the
/// level, "q4_0" the format for all matrices. "keep": every tensor stays what it is.
/// "gptq:int4-g64": a Hugging Face checkpoint of that scheme. "gguf:Q4_K_M" is "Q4_K_M".
Result<Target> parse_target(std::string_view text);

struct PlannedTensor {
  TensorInfo tensor;               // format and bytes as they will be written
  const Format* stored = nullptr;  // as they are in the source
  const Format* wanted = nullptr;  // what was asked for; differs from tensor.format where rows do
                                   // not fit its blocks
  bool quantizable = false;        // the target applies
  std::string reason = {};         // why it is not what the target says; empty: it is
};

struct Plan {
  Target target;
  std::uint32_t file_type = 0;  // general.file_type
  std::vector<PlannedTensor> tensors = {};
  std::uint64_t tensor_bytes = 0, weights = 0;
  double bits_per_weight() const {
    return weights ? 8.0 * double(tensor_bytes) / double(weights) : 0;
  }
};

/// `importance`: rounding will know the importance of columns (some levels then spend less).
/// An override that matches no matrix, or whose format a matrix cannot have, is an error.
Result<Plan> make_plan(const PlanInput& input, const Target& target,
                       std::span<const Override> overrides, bool importance);

}  // namespace nibble
