#include "plan/plan.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <numeric>

#include "base/checked.h"
#include "format/exact.h"

namespace nibble {
namespace {

/// "blk.12.attn_v.weight" -> 12; tensors outside of blocks -> -1.
int layer_of(std::string_view name) {
  if (!name.starts_with("blk.")) return -1;
  int layer = -1;
  std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  return layer;
}

bool is_number_type(const Format& format) { return format.block() == 1; }

const Format& f32() {
  const Format* format = find_format("f32");
  NIBBLE_CHECK(format != nullptr);
  return *format;
}

/// The place of every tensor. Matrices of a role are counted by layer, whatever their order in the
/// file.
std::vector<Site> sites_of(const PlanInput& input, bool importance) {
  const auto& tensors = input.tensors;
  const bool tied = std::none_of(tensors.begin(), tensors.end(),
                                 [](const TensorInfo& t) { return t.name == "output.weight"; });
  const bool llama_like = input.arch == "llama" || input.arch == "qwen2";
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t(0));
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return layer_of(tensors[a].name) < layer_of(tensors[b].name);
  });
  std::vector<Site> sites(tensors.size());
  std::map<Role, int> counts;
  for (const std::size_t i : order) {
    Site& site = sites[i];
    site.role = role_of(tensors[i].name);
    if (site.role == Role::embedding && tied) site.role = Role::output;
    site.heads_per_kv = input.kv_heads > 0 ? input.heads / input.kv_heads : 1;
    site.experts = input.experts;
    site.importance = importance;
    site.shared_value = llama_like && input.layers == 80 && site.heads_per_kv > 1;
    if (is_quantizable(tensors[i].name, tensors[i].shape.size())) site.index = counts[site.role]++;
    // Experts of one layer may be many tensors: their place is that of the layer.
    if (input.experts > 1 && site.role != Role::attn_v) site.index = layer_of(tensors[i].name);
  }
  for (Site& site : sites)
    site.count = site.role == Role::attn_v ? counts[site.role] : input.layers;
  return sites;
}

/// Norms, biases and the like: float32 where they are vectors of numbers, else what they are.
const Format& kept_format(const TensorInfo& tensor) {
  return tensor.shape.size() < 2 && is_number_type(*tensor.format) ? f32() : *tensor.format;
}

const Format& target_format(const Target& target, const TensorInfo& tensor, const Site& site) {
  if (target.level) return level_format(*target.level, site);
  return target.format ? *target.format : *tensor.format;
}

/// Why a tensor that is kept cannot be kept as it is; it gets the format that comes next.
void keep_in_gguf(PlannedTensor& planned) {
  const Format& stored = *planned.tensor.format;
  planned.wanted = &stored;
  planned.tensor.format = planned.tensor.order ? find_format("f16") : &gguf_format(stored);
  if (planned.tensor.format != &stored) planned.reason = fmt::format("GGUF has no {}", stored.id());
}

/// The number for general.file_type: the level's own, or the first level built on the format that
/// most bytes are in.
std::uint32_t file_type_of(const Target& target, std::span<const PlannedTensor> tensors) {
  if (target.level) return target.level->file_type;
  std::map<const Format*, std::uint64_t> bytes;
  for (const PlannedTensor& planned : tensors) bytes[planned.tensor.format] += planned.tensor.bytes;
  const Format* most = target.format;
  if (!most && !bytes.empty())
    most = std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) {
             return a.second < b.second;
           })->first;
  for (const Level& level : level_table())
    if (most && most->id() == level.format) return level.file_type;
  return 0;
}

bool fits(const Format& format, std::uint64_t columns) {
  return columns % std::uint64_t(format.block()) == 0;
}

Status apply_override(const Override& override, PlannedTensor& planned) {
  const TensorInfo& tensor = planned.tensor;
  if (!fits(*override.format, tensor.columns()))
    return fail(ErrorCode::invalid,
                "{}: {} has rows of {} columns, no multiple of the {} of a {} block; "
                "choose another format or a narrower pattern",
                override.text, tensor.name, tensor.columns(), override.format->block(),
                override.format->id());
  planned.wanted = override.format;
  planned.reason = override.text;
  return {};
}

void choose_fitting(PlannedTensor& planned, bool head) {
  TensorInfo& tensor = planned.tensor;
  tensor.format = &fitting_format(*planned.wanted, tensor.columns(), head);
  if (tensor.format != planned.wanted)
    planned.reason = fmt::format("rows of {} columns are no multiple of the {} of a {} block",
                                 tensor.columns(), planned.wanted->block(), planned.wanted->id());
}

Status set_bytes(TensorInfo& tensor) {
  std::uint64_t rows = 1;
  for (std::size_t d = 0; d + 1 < tensor.shape.size(); ++d) {
    NIBBLE_TRY_IN(tensor.name, rows, checked_mul(rows, tensor.shape[d]));
  }
  NIBBLE_TRY_IN(tensor.name, tensor.bytes,
                checked_mul(rows, tensor.format->row_bytes(tensor.columns())));
  return {};
}

/// Matrices of blocks are packed; the head, the embedding and what overrides say stay unquantized.
Status plan_packed(const Packer& packer, PlannedTensor& planned) {
  TensorInfo& tensor = planned.tensor;
  const bool said = !planned.reason.empty();
  if (said && !is_number_type(*planned.wanted))
    return fail(ErrorCode::invalid,
                "{}: in such a checkpoint a matrix is {} or stays unquantized: f16, bf16 or f32",
                planned.reason, packer.format().id());
  if (planned.quantizable && !said && layer_of(tensor.name) >= 0)
    planned.wanted = &packer.format();
  else if (!said)
    planned.wanted = is_number_type(*planned.stored) ? planned.stored : find_format("f16");
  tensor.format = planned.wanted;
  if (!fits(*tensor.format, tensor.columns()))
    return fail(ErrorCode::invalid,
                "{} has rows of {} columns, no multiple of the groups of {}; choose smaller "
                "groups, or keep it: --override REGEX=bf16",
                tensor.name, tensor.columns(), tensor.format->block());
  return {};
}

Result<Target> packer_target(std::string_view text, std::size_t colon) {
  const Scheme* scheme = find_scheme(text.substr(0, colon));
  if (!scheme) {
    std::string known = " gguf";
    for (const Scheme* each : scheme_registry()) known += fmt::format(" {}", each->name());
    return fail(ErrorCode::invalid, "'{}': nothing is written as '{}'; there are:{}", text,
                text.substr(0, colon), known);
  }
  NIBBLE_TRY(std::shared_ptr<const Packer> packer, scheme->packer(text.substr(colon + 1)));
  return Target{.format = &packer->format(), .packer = packer, .text = std::string(text)};
}

}  // namespace

Result<Override> parse_override(std::string_view text) {
  const auto equal = text.rfind('=');
  if (equal == text.npos || equal == 0 || equal + 1 == text.size())
    return fail(ErrorCode::invalid,
                "--override '{}': expected REGEX=FORMAT, for example 'ffn_down=q6_k'", text);
  const std::string_view id = text.substr(equal + 1);
  const Format* format = find_format(id);
  if (!format) {
    std::string known;
    for (const Format* each : format_registry())
      if (each->spec().ggml_type >= 0) known += fmt::format(" {}", each->id());
    return fail(ErrorCode::invalid, "--override '{}': no format named '{}'; there are:{}", text, id,
                known);
  }
  NIBBLE_TRY_IN(fmt::format("--override '{}'", text), Pattern pattern,
                Pattern::compile(text.substr(0, equal)));
  return Override{"--override " + std::string(text), std::move(pattern), format};
}

std::string Target::name() const {
  if (packer) return text;
  return std::string(level ? level->name : format ? format->id() : "keep");
}

Result<Target> parse_target(std::string_view text) {
  if (const auto colon = text.find(':'); colon != text.npos) {
    if (text.substr(0, colon) != "gguf") return packer_target(text, colon);
    text.remove_prefix(colon + 1);
  }
  if (text == "keep") return Target{};
  if (const Format* format = find_format(text))
    return is_number_type(*format) ? Target{.level = find_level(text)} : Target{.format = format};
  if (const Level* level = find_level(text)) return Target{.level = level};
  std::string levels;
  for (const Level& level : level_table()) levels += fmt::format(" {}", level.name);
  return fail(ErrorCode::invalid,
              "no level or format named '{}'; levels:{} (a format in lower case, such as q4_k, "
              "puts every matrix into it; gptq:int4-g128 and the like make a checkpoint for "
              "Transformers and vLLM)",
              text, levels);
}

Result<Plan> make_plan(const PlanInput& input, const Target& target,
                       std::span<const Override> overrides, bool importance) {
  Plan plan{.target = target};
  const std::vector<Site> sites = sites_of(input, importance);
  std::vector<bool> used(overrides.size());
  for (std::size_t i = 0; i < input.tensors.size(); ++i) {
    PlannedTensor planned{.tensor = input.tensors[i], .stored = input.tensors[i].format};
    TensorInfo& tensor = planned.tensor;
    planned.quantizable = is_quantizable(tensor.name, tensor.shape.size());
    planned.wanted = &target_format(target, tensor, sites[i]);
    for (std::size_t o = 0; planned.quantizable && o < overrides.size(); ++o) {
      if (!overrides[o].pattern.search(tensor.name)) continue;
      NIBBLE_DO(apply_override(overrides[o], planned));
      used[o] = true;
      break;
    }
    if (target.packer)
      NIBBLE_DO(plan_packed(*target.packer, planned));
    else if (!planned.quantizable)
      planned.wanted = tensor.format = &kept_format(tensor);
    else if (target.keep() && planned.reason.empty())
      keep_in_gguf(planned);
    else
      choose_fitting(planned, target.level && sites[i].role == Role::output);
    NIBBLE_DO(set_bytes(tensor));
    NIBBLE_TRY(plan.tensor_bytes, checked_add(plan.tensor_bytes, tensor.bytes));
    plan.weights += tensor.elements();
    plan.tensors.push_back(std::move(planned));
  }
  for (std::size_t o = 0; o < overrides.size(); ++o)
    if (!used[o])
      return fail(ErrorCode::invalid,
                  "{}: decides no matrix (nothing matches, or an earlier override does); "
                  "--dry-run lists the names",
                  overrides[o].text);
  plan.file_type = file_type_of(target, plan.tensors);
  return plan;
}

}  // namespace nibble
