// Checkpoints bound to the weights of a graph.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "arch/arch.h"
#include "arch/fields.h"

namespace nibble {
namespace {

using Rewrite = TensorRule::Rewrite;

const Arch* find_arch(std::string_view id) {
  for (const Arch* arch : arch_registry())
    if (arch->id() == id) return arch;
  return nullptr;
}

std::string known_archs() {
  std::vector<std::string_view> ids;
  for (const Arch* arch : arch_registry()) ids.push_back(arch->id());
  return fmt::format("{}", fmt::join(ids, ", "));
}

std::string base_name(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path.substr(path.rfind('/') + 1);
}

}  // namespace

const Arch* find_arch_by_hf(std::string_view name) {
  for (const Arch* arch : arch_registry())
    for (const std::string_view known : arch->hf_architectures())
      if (known == name) return arch;
  return nullptr;
}

Result<Model> Model::open(const std::string& path) {
  NIBBLE_TRY(auto source, open_source(path));
  return from(std::move(source));
}

Result<Model> Model::from(std::unique_ptr<Source> source) {
  const std::string path = source->path();
  Model model;
  model.source_ = std::move(source);
  NIBBLE_DO_IN(path, model.source_->hf() ? model.from_hf() : model.from_gguf());
  return model;
}

Status Model::from_gguf() {
  NIBBLE_TRY(const std::string id, source_->metadata().text("general.architecture"));
  arch_ = find_arch(id);
  if (!arch_)
    return fail(ErrorCode::unsupported, "general.architecture is '{}', nibble knows {}", id,
                known_archs());
  NIBBLE_TRY(const ModelConfig config, arch_->from_gguf(*source_));
  graph_ = arch_->graph(config);
  for (const Weight& weight : graph_.weights) NIBBLE_DO(bind(weight, weight.name, nullptr));
  for (const TensorInfo& tensor : source_->tensors())
    if (!index_.count(tensor.name))
      return fail(ErrorCode::unsupported, "tensor '{}' is not part of architecture {}", tensor.name,
                  id);
  return {};
}

Status Model::from_hf() {
  const Json& json = source_->hf()->config;
  if (!json.is_object())
    return fail(ErrorCode::corrupt, "config.json is missing: the directory of the model is needed");
  NIBBLE_TRY_IN("config.json", const std::string name, hf_architecture(json));
  arch_ = find_arch_by_hf(name);
  if (!arch_)
    return fail(ErrorCode::unsupported,
                "config.json: field 'architectures' is '{}', nibble knows the families {}", name,
                known_archs());
  NIBBLE_TRY_IN("config.json", const ModelConfig config, arch_->from_hf(json));
  graph_ = arch_->graph(config);

  std::unordered_map<std::string, std::string> stored;  // by canonical name
  for (const TensorInfo& tensor : source_->tensors()) {
    const std::string canonical = arch_->canonical_name(tensor.name, config);
    if (canonical.empty()) continue;
    if (!stored.emplace(canonical, tensor.name).second)
      return fail(ErrorCode::corrupt, "tensor '{}' is there under two names", canonical);
  }
  std::unordered_map<std::string, TensorRule> rules;
  for (TensorRule& rule : arch_->tensor_rules(config)) rules.emplace(rule.name, std::move(rule));
  for (const Weight& weight : graph_.weights) {
    const auto rule = rules.find(weight.name);
    if (rule == rules.end()) {  // computed
      NIBBLE_DO(bind(weight, "", nullptr));
      continue;
    }
    const auto found = stored.find(rule->second.hf_name);
    const std::string& stored_name = found == stored.end() ? rule->second.hf_name : found->second;
    NIBBLE_DO(bind(weight, stored_name, &rule->second));
    if (found != stored.end()) stored.erase(found);
  }
  if (!stored.empty())
    return fail(ErrorCode::unsupported, "tensor '{}' is not part of architecture {}",
                stored.begin()->second, arch_->id());
  return {};
}

/// Connects a weight with its stored tensor; an empty name stands for the computed one.
Status Model::bind(const Weight& weight, std::string_view stored_name, const TensorRule* rule) {
  Origin origin;
  TensorInfo info{.name = weight.name, .shape = weight.shape};
  if (stored_name.empty()) {
    origin.computed = true;
    info.format = find_format("f32");
    info.bytes = info.elements() * sizeof(float);
    NIBBLE_CHECK(weight.role == Weight::Role::rope && info.format);
  } else {
    const auto found = source_->find(stored_name);
    if (!found) return fail(ErrorCode::corrupt, "tensor '{}' is missing", stored_name);
    const TensorInfo& stored = source_->tensors()[*found];
    if (stored.shape != weight.shape)
      return fail(ErrorCode::corrupt, "tensor '{}' has shape [{}], the configuration says [{}]",
                  stored_name, fmt::join(stored.shape, ", "), fmt::join(weight.shape, ", "));
    origin.source_index = *found;
    info.format = stored.format;
    info.bytes = stored.bytes;
    info.order = stored.order;
    info.inputs = stored.inputs;
    if (rule) origin.rewrite = rule->rewrite;
    if (origin.rewrite == Rewrite::interleave_heads)
      origin.head_rows = weight.shape[0] / rule->heads;
  }
  if (weight.shape.size() == 1 && info.format->block() != 1)
    return fail(ErrorCode::unsupported, "tensor '{}' is {}, expected an unquantized format",
                stored_name, info.format->id());
  index_.emplace(info.name, tensors_.size());
  tensors_.push_back(std::move(info));
  origins_.push_back(origin);
  return {};
}

std::optional<std::size_t> Model::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? std::nullopt : std::optional(found->second);
}

/// GGUF's row 2i of a head is the checkpoint's row i, row 2i + 1 its row i + half.
std::uint64_t Model::stored_row(const Origin& origin, std::uint64_t row) const {
  if (origin.rewrite != Rewrite::interleave_heads) return row;
  const std::uint64_t inside = row % origin.head_rows;
  return row - inside + inside / 2 + inside % 2 * (origin.head_rows / 2);
}

/// The rows of a matrix are the elements of its bias.
void Model::change(const std::string& name, const Change& change) {
  whole_->values.reset();
  changes_[*find(name)].push_back(change);
  if (!name.ends_with(".weight") || (change.rows.empty() && !change.turn_rows)) return;
  if (const auto bias = find(name.substr(0, name.size() - 6) + "bias"))
    changes_[*bias].push_back({.rows = change.rows, .turn_rows = change.turn_rows});
}

void Model::rescale(const std::string& name, std::span<const float> rows,
                    std::span<const float> columns) {
  change(name, {.rows = {rows.begin(), rows.end()}, .columns = {columns.begin(), columns.end()}});
}

void Model::turn_rows(const std::string& name, const Rotation& rotation) {
  change(name, {.turn_rows = rotation});
}

void Model::turn_columns(const std::string& name, const Rotation& rotation) {
  change(name, {.turn_columns = rotation});
}

void Model::make_ones(const std::string& name) { change(name, {.ones = true}); }

void Model::untie_head() {
  if (!config().tied) return;
  NIBBLE_CHECK(changes_.empty());
  ModelConfig config = this->config();
  config.tied = false;
  graph_ = arch_->graph(config);
  std::vector<TensorInfo> tensors;
  std::vector<Origin> origins;
  for (const Weight& weight : graph_.weights) {
    const bool head = weight.role == Weight::Role::head;
    const std::size_t from = *find(head ? "token_embd.weight" : weight.name);
    tensors.push_back(tensors_[from]);
    origins.push_back(origins_[from]);
    if (!head) continue;
    tensors.back().name = weight.name;
    for (const TensorRule& rule : arch_->tensor_rules(config))
      if (rule.name == weight.name) origins.back().name = rule.hf_name;
  }
  tensors_ = std::move(tensors);
  origins_ = std::move(origins);
  index_.clear();
  for (std::size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

void Model::apply(const Change& change, std::uint64_t begin, std::uint64_t end,
                  std::uint64_t columns, float* out) {
  if (change.ones) std::fill_n(out, (end - begin) * columns, 1.0f);
  if (const auto& turn = change.turn_rows)
    for (std::uint64_t r = 0; r < end - begin; r += turn->width())
      turn->turn(out + r * columns, columns, columns, 1);
  if (const auto& turn = change.turn_columns)
    for (std::uint64_t j = 0; j < columns; j += turn->width())
      turn->turn(out + j, 1, end - begin, columns);
  if (change.rows.empty() && change.columns.empty()) return;
  for (std::uint64_t r = begin; r < end; ++r, out += columns) {
    const float row = change.rows.empty() ? 1 : change.rows[r];
    for (std::uint64_t j = 0; j < columns; ++j)
      out[j] *= change.columns.empty() ? row : row * change.columns[j];
  }
}

std::shared_ptr<const std::vector<float>> Model::whole(std::size_t index) const {
  const std::lock_guard lock(whole_->mutex);
  if (whole_->values && whole_->index == index) return whole_->values;
  whole_->values.reset();  // makes room
  const TensorInfo& info = tensors_[index];
  auto made = std::make_shared<std::vector<float>>(info.elements());
  load_stored_rows(index, 0, info.rows(), made->data());
  for (const Change& change : changes_.at(index))
    apply(change, 0, info.rows(), info.columns(), made->data());
  whole_->index = index;
  whole_->values = made;
  return made;
}

void Model::load_rows(std::size_t index, std::uint64_t begin, std::uint64_t end, float* out) const {
  const auto found = changes_.find(index);
  if (found == changes_.end()) return load_stored_rows(index, begin, end, out);
  const bool vector = tensors_[index].shape.size() == 1;
  const std::uint64_t columns = vector ? 1 : tensors_[index].columns();
  if (!vector && std::ranges::any_of(found->second, [](const Change& change) {
        return change.turn_rows.has_value();
      })) {
    const auto values = whole(index);
    std::copy_n(values->data() + begin * columns, (end - begin) * columns, out);
    return;
  }
  if (vector) begin = 0, end = tensors_[index].elements();
  load_stored_rows(index, begin, end, out);
  for (const Change& change : found->second) apply(change, begin, end, columns, out);
}

void Model::load_stored_rows(std::size_t index, std::uint64_t begin, std::uint64_t end,
                             float* out) const {
  const TensorInfo& info = tensors_[index];
  const Origin& origin = origins_[index];
  if (origin.computed) {
    std::copy(graph_.config.rope_scaling.factors.begin(), graph_.config.rope_scaling.factors.end(),
              out);
    return;
  }
  const bool vector = info.shape.size() == 1;  // its elements are what a rewrite calls rows
  const std::uint64_t columns = vector ? 1 : info.columns();
  if (vector) begin = 0, end = info.elements();
  const Format& format = *info.format;
  const std::size_t row_bytes = format.row_bytes(columns);
  const std::size_t row_blocks = columns / std::uint64_t(format.block());
  const std::span<const std::byte> data = source_->data(origin.source_index);
  std::vector<std::byte> unpacked(data.empty() ? row_bytes : 0);
  std::vector<float> stored(info.order ? columns : 0);
  for (std::uint64_t row = begin; row < end; ++row, out += columns) {
    const std::uint64_t from = stored_row(origin, row);
    if (data.empty()) source_->read_rows(origin.source_index, from, from + 1, unpacked.data());
    const std::byte* bytes = data.empty() ? unpacked.data() : data.data() + from * row_bytes;
    format.decode(bytes, row_blocks, info.order ? stored.data() : out);
    for (std::uint64_t j = 0; j < stored.size(); ++j) out[(*info.order)[j]] = stored[j];
    if (origin.rewrite == Rewrite::add_one)
      for (std::uint64_t j = 0; j < columns; ++j) out[j] += 1;
  }
}

void Model::load_bytes(std::size_t index, std::uint64_t begin, std::uint64_t end,
                       std::byte* out) const {
  const TensorInfo& info = tensors_[index];
  const Origin& origin = origins_[index];
  NIBBLE_CHECK(keeps_values(index));
  const bool vector = info.shape.size() == 1;
  if (vector) begin = 0, end = info.elements();
  const std::size_t row_bytes = info.format->row_bytes(vector ? 1 : info.columns());
  const std::span<const std::byte> data = source_->data(origin.source_index);
  for (std::uint64_t row = begin; row < end; ++row, out += row_bytes) {
    const std::uint64_t from = stored_row(origin, row);
    if (data.empty())
      source_->read_rows(origin.source_index, from, from + 1, out);
    else
      std::memcpy(out, data.data() + from * row_bytes, row_bytes);
  }
}

bool Model::keeps_values(std::size_t index) const {
  return !origins_[index].computed && origins_[index].rewrite != Rewrite::add_one &&
         !changes_.contains(index);
}

std::span<const std::byte> Model::stored(std::size_t index) const {
  const Origin& origin = origins_[index];
  if (origin.computed || origin.rewrite != Rewrite::none || changes_.contains(index)) return {};
  return source_->data(origin.source_index);
}

Model::Stored Model::stored_as(std::size_t index) const {
  const Origin& origin = origins_[index];
  if (origin.computed) return {};
  Stored out{
      .name = origin.name.empty() ? source_->tensors()[origin.source_index].name : origin.name,
      .added = origin.rewrite == Rewrite::add_one ? 1.0f : 0.0f};
  if (origin.rewrite == Rewrite::interleave_heads)
    for (std::uint64_t row = 0; row < tensors_[index].shape[0]; ++row)
      out.rows.push_back(std::uint32_t(stored_row(origin, row)));
  return out;
}

void Model::release_rows(std::size_t index, std::uint64_t begin, std::uint64_t end) const {
  const Origin& origin = origins_[index];
  const TensorInfo& info = tensors_[index];
  if (origin.computed || info.shape.size() == 1) return;
  if (origin.head_rows > 0) {  // whole heads, which the rows are scattered over
    begin -= begin % origin.head_rows;
    end = std::min<std::uint64_t>(info.rows(), end + origin.head_rows - 1);
    end -= end % origin.head_rows;
  }
  const std::uint64_t row_bytes = info.format->row_bytes(info.columns());
  source_->release(origin.source_index, begin * row_bytes, (end - begin) * row_bytes);
}

Metadata gguf_metadata(const Model& model) {
  Metadata metadata;
  if (!model.source().hf()) {
    for (const auto& [key, value] : model.source().metadata().entries())
      if (key.rfind("split.", 0) != 0) metadata.set(key, value);
    return metadata;
  }
  model.arch().to_gguf(model.config(), metadata);
  metadata.set("general.type", std::string("model"));
  metadata.set("general.name", base_name(model.source().path()));
  return metadata;
}

}  // namespace nibble
