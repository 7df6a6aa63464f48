#include "container/compressed_groups.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/utf8.h"

namespace nibble {
namespace {

using Kind = InputRounding::Kind;

/// A field that is an object, if it is there and not null.
Result<const Json*> object_or_null(const Json& json, const char* field) {
  const auto found = json.find(field);
  if (found == json.end() || found->is_null()) return nullptr;
  if (found->is_object()) return &*found;
  return fail(ErrorCode::corrupt, "field '{}' is {}, expected an object", field,
              found->type_name());
}

/// "false", "true", or a word; "false" where there is nothing.
Result<std::string> word_or_bool(const Json& json, const char* field) {
  const auto found = json.find(field);
  if (found == json.end() || found->is_null()) return "false";
  if (found->is_string()) return found->get<std::string>();
  NIBBLE_TRY(const bool value, json_bool_or(json, field, false));
  return value ? "true" : "false";
}

struct Settings {
  std::string type, strategy, dynamic, scales;
  std::uint64_t bits = 0;
  double group = 0;  // -1: all columns
  bool symmetric = true;

  Kind kind() const {
    const bool eight = bits == 8 && symmetric && scales.empty() &&
                       ((strategy == "token" && dynamic == "true") ||
                        (strategy == "tensor" && dynamic == "false"));
    if (eight && type == "int") return Kind::int8;
    if (eight && type == "float") return Kind::fp8;
    const bool four = bits == 4 && symmetric && type == "float" && strategy == "tensor_group" &&
                      group == 16 && dynamic == "local" &&
                      (scales.empty() || scales == "torch.float8_e4m3fn");
    return four ? Kind::fp4 : Kind::none;
  }
};

Result<Settings> read_settings(const Json& json) {
  Settings out;
  NIBBLE_TRY(out.bits, json_uint_or(json, "num_bits", 8));
  NIBBLE_TRY(out.type, json_string_or(json, "type", "int"));
  NIBBLE_TRY(out.symmetric, json_bool_or(json, "symmetric", true));
  NIBBLE_TRY(out.strategy, json_string_or(json, "strategy", "tensor"));
  NIBBLE_TRY(out.group, json_number_or(json, "group_size", 0));
  NIBBLE_TRY(out.scales, json_string_or(json, "scale_dtype", ""));
  NIBBLE_TRY(out.dynamic, word_or_bool(json, "dynamic"));
  return out;
}

}  // namespace

Result<CompressedGroups> CompressedGroups::parse(const Json& settings) {
  CompressedGroups out;
  NIBBLE_TRY_IN("config.json", const Json* cache, object_or_null(settings, "kv_cache_scheme"));
  if (cache) out.notes_.push_back("config.json rounds keys and values, which nibble does not do");
  NIBBLE_TRY_IN("config.json", const Json* groups, object_or_null(settings, "config_groups"));
  if (!groups) return out;
  for (const auto& [name, group] : groups->items())
    NIBBLE_DO_IN("config.json: config_groups: " + quote(name), out.read_group(name, group));
  return out;
}

Status CompressedGroups::read_group(const std::string& name, const Json& json) {
  if (!json.is_object())
    return fail(ErrorCode::unsupported, "is {}, expected an object", json.type_name());
  Group group;
  if (const auto targets = json.find("targets"); targets != json.end() && targets->is_array())
    for (const Json& target : *targets)
      if (target.is_string()) group.targets.insert(target.get<std::string>());
  NIBBLE_TRY(const Json* weights, object_or_null(json, "weights"));
  if (weights) {
    NIBBLE_TRY_IN("weights", group.type, json_string_or(*weights, "type", "int"));
    NIBBLE_TRY_IN("weights", group.bits, json_uint_or(*weights, "num_bits", 8));
    NIBBLE_TRY_IN("weights", const std::string order, word_or_bool(*weights, "actorder"));
    group.act_order = order == "group" || order == "dynamic" || order == "true";
  }
  NIBBLE_TRY(const Json* inputs, object_or_null(json, "input_activations"));
  if (inputs) NIBBLE_DO_IN("input_activations", read_inputs(name, *inputs, group));
  NIBBLE_TRY(const Json* outputs, object_or_null(json, "output_activations"));
  if (outputs)
    notes_.push_back(
        fmt::format("config.json rounds the outputs of group {}, which nibble does not do: they "
                    "stay as they are",
                    quote(name)));
  groups_.push_back(std::move(group));
  return {};
}

Status CompressedGroups::read_inputs(const std::string& name, const Json& json, Group& group) {
  NIBBLE_TRY(const Settings s, read_settings(json));
  group.kind = s.kind();
  group.stored = s.strategy != "token";
  if (group.kind == Kind::none)
    notes_.push_back(
        fmt::format("config.json rounds the inputs of group {} to {} {} of {} bits (strategy {}, "
                    "dynamic {}), which nibble does not do: they stay as they are",
                    quote(name), s.symmetric ? "symmetric" : "asymmetric", quote(s.type), s.bits,
                    quote(s.strategy), quote(s.dynamic)));
  return {};
}

/// nullptr: nibble cannot tell.
const CompressedGroups::Group* CompressedGroups::group_of(const std::string& stem,
                                                          std::string_view type,
                                                          std::uint64_t bits) const {
  const auto named =
      std::ranges::find_if(groups_, [&](const Group& g) { return g.targets.contains(stem); });
  if (named != groups_.end()) return &*named;
  const Group* found = nullptr;
  for (const Group& group : groups_) {
    if (group.type != type || group.bits != bits) continue;
    if (found && (found->kind != group.kind || found->stored != group.stored)) return nullptr;
    found = &group;
  }
  return found;
}

bool CompressedGroups::act_order(const std::string& stem, std::string_view type,
                                 std::uint64_t bits) const {
  const Group* group = group_of(stem, type, bits);
  return group && group->act_order;
}

Result<InputRounding> CompressedGroups::of(const std::string& stem, std::string_view type,
                                           std::uint64_t bits, const RawTensors& tensors) {
  const bool some =
      std::ranges::any_of(groups_, [](const Group& g) { return g.kind != Kind::none; });
  if (!some) return InputRounding();
  const Group* group = group_of(stem, type, bits);
  if (!group && !std::exchange(unclear_, true))
    notes_.push_back(
        fmt::format("config.json does not say clearly which group {} is of: its inputs, and those "
                    "of others like it, stay as they are",
                    quote(stem)));
  InputRounding out{.kind = group ? group->kind : Kind::none};
  if (out.kind == Kind::none || !group->stored) return out;
  const std::string name = stem + (out.kind == Kind::fp4 ? ".input_global_scale" : ".input_scale");
  const RawTensor* found = tensors.find(name);
  const bool plain = found && found->shape.empty();
  NIBBLE_TRY(const RawTensor* scale,
             tensors.get(name, "number", std::vector<std::uint64_t>(plain ? 0 : 1, 1)));
  out.scale = number_at(*scale, 0);
  if (out.scale > 0 && std::isfinite(out.scale)) return out;
  return fail(ErrorCode::corrupt, "tensor {}: {}, expected a number above 0", quote(name),
              out.scale);
}

}  // namespace nibble
