#include "arch/fields.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace nibble {
namespace {

constexpr std::uint32_t kMaxWindow = 1u << 28;

double as_f32(double x) { return double(float(x)); }

/// Llama 3.1: short waves keep their frequency, long ones are divided by `factor`, those between
/// are blended by how many of them fit into the original context.
std::vector<float> llama3_factors(std::uint32_t head_dim, double theta, double factor, double low,
                                  double high, double original) {
  std::vector<float> factors;
  for (std::uint32_t i = 0; i < head_dim / 2; ++i) {
    const double wavelength = 2 * std::numbers::pi * std::pow(theta, 2.0 * i / head_dim);
    const double turns = original / wavelength;
    if (turns > high) {
      factors.push_back(1);
    } else if (turns < low) {
      factors.push_back(float(factor));
    } else {
      const double keep = (turns - low) / (high - low);
      factors.push_back(float(1 / ((1 - keep) / factor + keep)));
    }
  }
  return factors;
}

Status hf_llama3(const Json& rope, const ModelConfig& config, RopeScaling& out) {
  NIBBLE_TRY(const double factor, in_range("factor", json_number(rope, "factor"), 1, 1e6));
  NIBBLE_TRY(const double low,
             in_range("low_freq_factor", json_number_or(rope, "low_freq_factor", 1), 1e-3, 1e6));
  NIBBLE_TRY(const double high,
             in_range("high_freq_factor", json_number_or(rope, "high_freq_factor", 4), 1e-3, 1e6));
  NIBBLE_TRY(const double original,
             in_range("original_max_position_embeddings",
                      json_number_or(rope, "original_max_position_embeddings", 8192), 1, 1e9));
  if (high <= low)
    return fail(ErrorCode::corrupt, "field 'high_freq_factor' is {}, not above low_freq_factor {}",
                high, low);
  out.kind = RopeScaling::Kind::factors;
  out.factors = llama3_factors(config.head_dim, config.rope_theta, factor, low, high, original);
  return {};
}

Status hf_yarn(const Json& rope, const ModelConfig& config, RopeScaling& out) {
  out.kind = RopeScaling::Kind::yarn;
  NIBBLE_TRY(out.factor, in_range("factor", json_number(rope, "factor"), 1, 1e6));
  NIBBLE_TRY(
      out.original_context,
      in_range("original_max_position_embeddings",
               json_number_or(rope, "original_max_position_embeddings", config.context), 1, 1e9));
  NIBBLE_TRY(out.beta_fast,
             in_range("beta_fast", json_number_or(rope, "beta_fast", 32), 1e-3, 1e6));
  NIBBLE_TRY(out.beta_slow, in_range("beta_slow", json_number_or(rope, "beta_slow", 1), 1e-3, 1e6));
  NIBBLE_TRY(out.attention_factor,
             in_range("attention_factor", json_number_or(rope, "attention_factor", 0), 0, 1e3));
  NIBBLE_TRY(const double mscale, in_range("mscale", json_number_or(rope, "mscale", 0), 0, 1e3));
  NIBBLE_TRY(const double mscale_all,
             in_range("mscale_all_dim", json_number_or(rope, "mscale_all_dim", 0), 0, 1e3));
  NIBBLE_TRY(const bool truncate, json_bool_or(rope, "truncate", true));
  if (!truncate) return fail(ErrorCode::unsupported, "field 'truncate' is false, expected true");
  if (out.attention_factor == 0 && mscale > 0 && mscale_all > 0)
    out.attention_factor =
        (0.1 * mscale * std::log(out.factor) + 1) / (0.1 * mscale_all * std::log(out.factor) + 1);
  out.original_context = std::floor(out.original_context);
  out.factor = as_f32(out.factor), out.beta_fast = as_f32(out.beta_fast);
  out.beta_slow = as_f32(out.beta_slow), out.attention_factor = as_f32(out.attention_factor);
  return {};
}

Status hf_scaling(const Json& rope, ModelConfig& config) {
  NIBBLE_TRY(std::string type, json_string_or(rope, "type", "default"));
  NIBBLE_TRY(type, json_string_or(rope, "rope_type", type));
  NIBBLE_DO(
      in_range("partial_rotary_factor", json_number_or(rope, "partial_rotary_factor", 1), 1, 1)
          .map([](double) {}));
  RopeScaling& out = config.rope_scaling;
  if (type == "default") return {};
  if (type == "llama3") return hf_llama3(rope, config, out);
  if (type == "yarn") return hf_yarn(rope, config, out);
  if (type != "linear")
    return fail(ErrorCode::unsupported,
                "field 'rope_type' is '{}', expected default, linear, llama3 or yarn", type);
  NIBBLE_TRY(out.factor, in_range("factor", json_number(rope, "factor"), 1, 1e6));
  out.factor = as_f32(out.factor);
  out.kind = RopeScaling::Kind::linear;
  return {};
}

/// The object in field `field`, or an empty one.
Result<Json> object_or_empty(const Json& config, const char* field) {
  const auto found = config.find(field);
  if (found == config.end() || found->is_null()) return Json::object();
  if (!found->is_object()) return fail(ErrorCode::corrupt, "field '{}' is not an object", field);
  return *found;
}

std::string_view scaling_name(RopeScaling::Kind kind) {
  return kind == RopeScaling::Kind::linear ? "linear"
         : kind == RopeScaling::Kind::yarn ? "yarn"
                                           : "none";
}

double usual_attention_factor(double factor) { return 0.1 * std::log(factor) + 1; }

Status gguf_yarn(const Metadata& metadata, const std::string& prefix, ModelConfig& config) {
  RopeScaling& out = config.rope_scaling;
  const auto number = [&](const char* key, double otherwise, double low, double high) {
    return in_range(prefix + key, metadata.number_or(prefix + key, otherwise), low, high);
  };
  NIBBLE_TRY(
      out.original_context,
      in_range(prefix + "original_context_length",
               metadata.number_or(prefix + "original_context_length", config.context), 1, 1e9));
  NIBBLE_TRY(out.beta_fast, number("yarn_beta_fast", 32, 1e-3, 1e6));
  NIBBLE_TRY(out.beta_slow, number("yarn_beta_slow", 1, 1e-3, 1e6));
  NIBBLE_TRY(const double relative, number("attn_factor", 1, 1e-3, 1e3));
  const double otherwise = relative == 1 ? 0 : relative * usual_attention_factor(out.factor);
  NIBBLE_TRY(out.attention_factor, number("yarn_attn_factor", as_f32(otherwise), 0, 1e3));
  return {};
}

}  // namespace

Result<double> in_range(const std::string& field, Result<double> value, double low, double high) {
  if (value && !(*value >= low && *value <= high))
    return fail(ErrorCode::corrupt, "field '{}' is {}, expected {} to {}", field, *value, low,
                high);
  return value;
}

Result<std::uint32_t> in_range(const std::string& field, Result<std::uint64_t> value,
                               std::uint32_t low, std::uint32_t high) {
  if (!value) return tl::unexpected<Error>(value.error());
  if (*value < low || *value > high)
    return fail(ErrorCode::corrupt, "field '{}' is {}, expected {} to {}", field, *value, low,
                high);
  return std::uint32_t(*value);
}

Result<std::string> hf_architecture(const Json& config) {
  const auto list = config.find("architectures");
  if (list == config.end() || !list->is_array() || list->empty() || !list->front().is_string())
    return fail(ErrorCode::corrupt, "field 'architectures' does not name a model class");
  return list->front().get<std::string>();
}

Status hf_activation(const Json& config, std::span<const std::string_view> names) {
  const char* field = config.contains("hidden_activation") ? "hidden_activation" : "hidden_act";
  NIBBLE_TRY(const std::string name, json_string_or(config, field, std::string(names[0])));
  if (std::find(names.begin(), names.end(), name) == names.end())
    return fail(ErrorCode::unsupported, "field '{}' is '{}', expected '{}'", field, name, names[0]);
  return {};
}

Result<std::uint32_t> hf_window(const Json& config, std::uint32_t otherwise) {
  const auto found = config.find("sliding_window");
  if (found != config.end() && found->is_null()) return 0u;
  return in_range("sliding_window", json_uint_or(config, "sliding_window", otherwise), 1,
                  kMaxWindow);
}

Status hf_layer_types(const Json& config, const std::function<bool(std::uint32_t)>& otherwise,
                      ModelConfig& out) {
  const auto types = config.find("layer_types");
  const bool given = types != config.end() && !types->is_null();
  if (given && (!types->is_array() || types->size() != out.layers))
    return fail(ErrorCode::corrupt, "field 'layer_types' is not a list of {} layers", out.layers);
  out.windowed.clear();
  for (std::uint32_t i = 0; i < out.layers; ++i) {
    const bool windowed = given ? (*types)[i] == "sliding_attention" : otherwise(i);
    if (given && !windowed && (*types)[i] != "full_attention")
      return fail(ErrorCode::unsupported,
                  "field 'layer_types', entry {}: expected sliding_attention or full_attention", i);
    out.windowed.push_back(windowed);
  }
  return {};
}

Status hf_optional_windows(const Json& config, ModelConfig& out) {
  NIBBLE_TRY(const bool windows, json_bool_or(config, "use_sliding_window", false));
  if (!windows) return {};
  NIBBLE_TRY(out.window, hf_window(config, 4096));
  NIBBLE_TRY(const std::uint64_t first, json_uint_or(config, "max_window_layers", 28));
  return hf_layer_types(
      config, [&](std::uint32_t layer) { return layer >= first; }, out);
}

void normalize_windows(ModelConfig& config) {
  const auto& list = config.windowed;
  const bool any = list.empty() || std::find(list.begin(), list.end(), true) != list.end();
  const bool all = std::find(list.begin(), list.end(), false) == list.end();
  if (!any) config.window = 0;
  if (config.window == 0) config.rope_theta_local = 0;
  if (all || config.window == 0) config.windowed.clear();
}

Status hf_rope(const Json& config, ModelConfig& out) {
  NIBBLE_TRY(Json rope, object_or_empty(config, "rope_scaling"));
  if (config.contains("rope_parameters")) {
    NIBBLE_TRY(rope, object_or_empty(config, "rope_parameters"));
  }
  NIBBLE_TRY(const Json local, object_or_empty(rope, "sliding_attention"));
  if (rope.contains("full_attention")) {
    NIBBLE_TRY(rope, object_or_empty(rope, "full_attention"));
  }
  const auto theta = [&](const Json& part, const char* field, double otherwise) {
    auto value = json_number_or(part, "rope_theta", otherwise);
    if (!part.contains("rope_theta")) value = json_number_or(config, field, otherwise);
    return in_range(field, value, 1.001, 1e12).map(as_f32);
  };
  NIBBLE_TRY(out.rope_theta, theta(rope, "rope_theta", out.rope_theta));
  if (out.rope_theta_local > 0) {
    NIBBLE_TRY(out.rope_theta_local, theta(local, "rope_local_base_freq", out.rope_theta_local));
    NIBBLE_TRY(const std::string type, json_string_or(local, "rope_type", "default"));
    if (type != "default")
      return fail(ErrorCode::unsupported, "field 'sliding_attention': rope_type is '{}'", type);
  }
  NIBBLE_DO(
      in_range("partial_rotary_factor", json_number_or(config, "partial_rotary_factor", 1), 1, 1)
          .map([](double) {}));
  NIBBLE_DO_IN("rope scaling", hf_scaling(rope, out));
  return {};
}

Status gguf_rope(const Metadata& metadata, const std::string& prefix, ModelConfig& out) {
  NIBBLE_TRY(out.rope_theta,
             in_range(prefix + "rope.freq_base",
                      metadata.number_or(prefix + "rope.freq_base", 10000), 1.001, 1e12));
  if (out.rope_theta_local > 0) {
    NIBBLE_TRY(out.rope_theta_local,
               in_range(prefix + "rope.freq_base_swa",
                        metadata.number_or(prefix + "rope.freq_base_swa", out.rope_theta_local),
                        1.001, 1e12));
  }
  const std::string scaling = prefix + "rope.scaling.";
  NIBBLE_TRY(const double old, metadata.number_or(prefix + "rope.scale_linear", 1));
  NIBBLE_TRY(double factor, metadata.number_or(scaling + "factor", old));
  if (factor == 0) factor = 1;  // some files say 0 for none
  NIBBLE_TRY(factor, in_range(scaling + "factor", factor, 1, 1e6));
  NIBBLE_TRY(const std::string type, metadata.text_or(scaling + "type", "linear"));
  if (type == "none" || (type == "linear" && factor == 1)) return {};
  if (type != "linear" && type != "yarn")
    return fail(ErrorCode::unsupported, "field '{}type' is '{}', expected none, linear or yarn",
                scaling, type);
  out.rope_scaling.kind = type == "linear" ? RopeScaling::Kind::linear : RopeScaling::Kind::yarn;
  out.rope_scaling.factor = factor;
  if (type == "linear") return {};
  return gguf_yarn(metadata, scaling, out);
}

// Runtimes take rope.scaling.attn_factor relative to the usual factor; yarn_attn_factor holds the
// number of the checkpoint itself, as llama.cpp's converter writes it. Stock llama.cpp reads the
// betas for few architectures and else assumes 32 and 1, which is what models have.
void rope_to_gguf(const ModelConfig& config, const std::string& prefix, Metadata& metadata) {
  metadata.set(prefix + "rope.dimension_count", config.head_dim);
  metadata.set(prefix + "rope.freq_base", float(config.rope_theta));
  if (config.rope_theta_local > 0)
    metadata.set(prefix + "rope.freq_base_swa", float(config.rope_theta_local));
  const RopeScaling& rope = config.rope_scaling;
  if (rope.kind != RopeScaling::Kind::linear && rope.kind != RopeScaling::Kind::yarn) return;
  const std::string scaling = prefix + "rope.scaling.";
  metadata.set(scaling + "type", std::string(scaling_name(rope.kind)));
  metadata.set(scaling + "factor", float(rope.factor));
  if (rope.kind == RopeScaling::Kind::linear) return;
  metadata.set(scaling + "original_context_length", std::uint32_t(rope.original_context));
  metadata.set(scaling + "yarn_beta_fast", float(rope.beta_fast));
  metadata.set(scaling + "yarn_beta_slow", float(rope.beta_slow));
  if (rope.attention_factor == 0) return;
  metadata.set(scaling + "yarn_attn_factor", float(rope.attention_factor));
  metadata.set(scaling + "attn_factor",
               float(rope.attention_factor / usual_attention_factor(rope.factor)));
}

}  // namespace nibble
