// Reading the fields of configurations: range checks and the parts that several architectures
// share.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "arch/config.h"
#include "base/json.h"
#include "container/metadata.h"

namespace nibble {

/// A number from outside inside [low, high], or an error naming `field` (also for NaN).
Result<double> in_range(const std::string& field, Result<double> value, double low, double high);
Result<std::uint32_t> in_range(const std::string& field, Result<std::uint64_t> value,
                               std::uint32_t low, std::uint32_t high);

/// The first of "architectures".
Result<std::string> hf_architecture(const Json& config);
/// hidden_act (or hidden_activation) must be one of `names`.
Status hf_activation(const Json& config, std::span<const std::string_view> names);
/// sliding_window: 0 where it is null, `otherwise` where it is missing.
Result<std::uint32_t> hf_window(const Json& config, std::uint32_t otherwise);
/// out.windowed from layer_types ("sliding_attention" or "full_attention" for each layer) if given,
/// else from `otherwise(layer)`.
Status hf_layer_types(const Json& config, const std::function<bool(std::uint32_t)>& otherwise,
                      ModelConfig& out);
/// Qwen: windows only with use_sliding_window, and from layer max_window_layers on.
Status hf_optional_windows(const Json& config, ModelConfig& out);
/// One form for each meaning: no list if all layers have the window, no window if none has.
void normalize_windows(ModelConfig& config);

/// rope_theta and its scaling (fields rope_parameters or rope_scaling, both generations of them).
/// `out` holds the defaults, head_dim and context.
Status hf_rope(const Json& config, ModelConfig& out);
/// The keys rope.freq_base and rope.scaling.*; `prefix` is "llama.".
Status gguf_rope(const Metadata& metadata, const std::string& prefix, ModelConfig& out);
void rope_to_gguf(const ModelConfig& config, const std::string& prefix, Metadata& metadata);

}  // namespace nibble
