// What compressed-tensors' configuration says of quantized layers, and their tensors do not:
//
//   "config_groups": {"group_0": {"targets": ["Linear"],
//                                 "weights": {"num_bits", "type", "actorder", ...},
//                                 "input_activations": {"num_bits", "type", "symmetric",
//                                 "strategy",
//                                                       "group_size", "dynamic", "scale_dtype"}}}
//
//   int or float, 8 bits    a scale a token ("token", dynamic), or X.input_scale [1] ("tensor")
//   float, 4 bits           "tensor_group" of 16, dynamic "local": X.input_global_scale [1]
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "container/scheme.h"

namespace nibble {

class CompressedGroups {
 public:
  /// Hostile input: errors name the group and the field. What nibble cannot do is a note.
  static Result<CompressedGroups> parse(const Json& settings);

  /// How the inputs of stem.weight are rounded, whose codes are of `type` ("int", "float") and
  /// `bits`. Errors: a scale that is missing or not above 0.
  Result<InputRounding> of(const std::string& stem, std::string_view type, std::uint64_t bits,
                           const RawTensors& tensors);

  /// Whether the columns of stem.weight are in an order that X.weight_g_idx tells ("group", which
  /// others call "dynamic"); "weight" means that only whoever rounded them took another order.
  bool act_order(const std::string& stem, std::string_view type, std::uint64_t bits) const;

  const std::vector<std::string>& notes() const { return notes_; }

 private:
  struct Group {
    std::set<std::string> targets = {};
    std::string type = {};  // of the weights
    std::uint64_t bits = 0;
    bool act_order = false;
    InputRounding::Kind kind = InputRounding::Kind::none;
    bool stored = false;  // the scale is a tensor
  };
  Status read_group(const std::string& name, const Json& json);
  Status read_inputs(const std::string& name, const Json& json, Group& group);
  const Group* group_of(const std::string& stem, std::string_view type, std::uint64_t bits) const;

  std::vector<Group> groups_;
  std::vector<std::string> notes_;
  bool unclear_ = false;  // a note says so
};

}  // namespace nibble
