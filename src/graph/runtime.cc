#include "graph/runtime.h"

#include <algorithm>
#include <cmath>

#include "base/cpu.h"
#include "graph/packed_cache.h"
#include "graph/state.h"
#include "kernel/caches.h"

namespace nibble {
namespace {

Result<Matrix> pack_matrix(const Model& model, std::size_t index, ThreadPool& pool) {
  const TensorInfo& info = model.tensors()[index];
  const Format* format = info.format;
  std::vector<std::byte> made;
  std::span<const std::byte> bytes = model.stored(index);
  if (bytes.empty() && model.keeps_values(index)) {
    made.resize(info.bytes);
    model.load_bytes(index, 0, info.rows(), made.data());
    bytes = made;
  } else if (bytes.empty()) {  // rewritten
    format = find_format("f32");
    made.resize(info.elements() * sizeof(float));
    model.load_rows(index, 0, info.rows(), reinterpret_cast<float*>(made.data()));
    bytes = made;
  }
  auto matrix =
      Matrix::pack(*format, std::int64_t(info.rows()), std::int64_t(info.columns()), bytes, pool);
  model.release_rows(index, 0, info.rows());
  return matrix;
}

/// `cache`: null: none.
Result<Matrix> load_matrix(const Model& model, std::size_t index, PackedCache* cache,
                           bool round_inputs, ThreadPool& pool) {
  std::optional<Matrix> matrix;
  if (cache) {
    NIBBLE_TRY(matrix, cache->find(index));
  }
  if (!matrix) {
    NIBBLE_TRY(matrix, pack_matrix(model, index, pool));
    if (cache) NIBBLE_DO(cache->keep(index, *matrix));
  }
  if (!model.keeps_values(index)) return std::move(*matrix);
  matrix->set_order(model.tensors()[index].order);
  if (round_inputs) matrix->set_inputs(model.tensors()[index].inputs);
  return std::move(*matrix);
}

Result<std::vector<float>> load_vector(const Model& model, std::size_t index) {
  const TensorInfo& info = model.tensors()[index];
  std::vector<float> values(info.elements());
  model.load_rows(index, 0, info.rows(), values.data());
  for (const float value : values)
    if (!std::isfinite(value)) return fail(ErrorCode::corrupt, "holds a value that is not finite");
  return values;
}

}  // namespace

void Runtime::State::compile(const std::vector<Node>& nodes, std::vector<Step>& steps) const {
  const Node* reader = nullptr;  // the last linear node
  for (const Node& node : nodes) {
    Step step{.node = &node};
    if (node.kind == Node::Kind::embed || node.kind == Node::Kind::linear)
      step.matrix = &matrices.at(node.weight);
    if (node.kind == Node::Kind::norm) step.vector = vectors.at(node.weight).data();
    if (node.kind == Node::Kind::linear) {
      if (!node.bias.empty()) step.vector = vectors.at(node.bias).data();
      step.fresh = !reader || reader->tap != node.tap;
      reader = &node;
    }
    steps.push_back(step);
  }
}

void Runtime::State::connect(int block) {
  const auto add = [&](const std::vector<Node>& nodes) {
    begins.push_back(layers.size());
    compile(nodes, layers);
  };
  if (block >= 0) {
    add(graph.blocks[std::size_t(block)]);
  } else {
    compile(graph.before, layers);
    for (const auto& nodes : graph.blocks) add(nodes);
    compile(graph.after, after);
  }
  begins.push_back(layers.size());
  rope = RopeTable(graph.config, false);
  if (graph.config.rope_theta_local > 0) local_rope = RopeTable(graph.config, true);
}

Result<std::unique_ptr<Runtime>> Runtime::load(const Model& model, const RuntimeOptions& options,
                                               Progress& progress) {
  auto state = std::make_unique<State>(model.graph(), options.threads);
  state->path = model.source().path();
  state->precision = options.precision;
  NIBBLE_TRY(state->cache, find_cache(options.cache, options.precision));
  const auto wanted = [&](std::size_t i) {
    const Weight& weight = model.graph().weights[i];
    return options.block < 0 || weight.layer == options.block || weight.role == Weight::Role::rope;
  };
  std::uint64_t total = 0, done = 0;
  for (std::size_t i = 0; i < model.tensors().size(); ++i)
    if (wanted(i)) total += model.tensors()[i].bytes;
  if (options.block < 0)
    for (const std::string& note : model.source().notes()) progress.note(note);
  std::optional<PackedCache> kept;
  if (!options.packed.empty()) {
    NIBBLE_TRY(kept, PackedCache::open(options.packed, model));
  }
  PackedCache* const cache = kept ? &*kept : nullptr;
  progress.begin("load", total, "bytes");
  for (std::size_t i = 0; i < model.tensors().size(); ++i) {
    if (!wanted(i)) continue;
    const TensorInfo& info = model.tensors()[i];
    const std::string where = state->path + ": tensor '" + info.name + "'";
    if (info.shape.size() == 2) {
      NIBBLE_TRY_IN(where, Matrix matrix,
                    load_matrix(model, i, cache, options.round_inputs, state->pool));
      state->matrices.emplace(info.name, std::move(matrix));
    } else {
      NIBBLE_TRY_IN(where, auto values, load_vector(model, i));
      state->vectors.emplace(info.name, std::move(values));
    }
    progress.update(done += info.bytes);
    if (progress.cancelled()) return fail(ErrorCode::cancelled, "cancelled while loading");
  }
  progress.end();
  if (cache && cache->writes()) {
    progress.begin("keep packed weights", cache->size(), "bytes");  // the disk may lag behind
    NIBBLE_DO(cache->commit());
    progress.update(cache->size());
    progress.end();
  }

  state->connect(options.block);
  return std::unique_ptr<Runtime>(new Runtime(std::move(state)));
}

Result<std::unique_ptr<Runtime>> Runtime::blank(
    const Graph& graph, const std::function<const Format&(const Weight&)>& format,
    const RuntimeOptions& options) {
  if (active_isa().empty())
    return fail(
        ErrorCode::invalid,
        "NIBBLE_ISA names no instruction set that runs here: unset it, or set it to scalar");
  auto state = std::make_unique<State>(graph, options.threads);
  state->precision = options.precision;
  NIBBLE_TRY(state->cache, find_cache(options.cache, options.precision));
  for (const Weight& weight : graph.weights) {
    if (weight.shape.size() == 2)
      state->matrices.emplace(weight.name,
                              Matrix::blank(format(weight), std::int64_t(weight.shape[0]),
                                            std::int64_t(weight.shape[1])));
    else
      state->vectors.emplace(weight.name, std::vector<float>(weight.shape[0]));
  }
  state->connect(options.block);
  return std::unique_ptr<Runtime>(new Runtime(std::move(state)));
}

Runtime::Runtime(std::unique_ptr<State> state) : state_(std::move(state)) {}
Runtime::~Runtime() = default;

Status Runtime::replace(const std::string& weight, const Format& format,
                        std::span<const std::byte> bytes, const ColumnOrder& order) {
  Matrix& matrix = state_->matrices.at(weight);
  NIBBLE_TRY(matrix, Matrix::pack(format, matrix.rows(), matrix.columns(), bytes, state_->pool));
  matrix.set_order(order);
  return {};
}

const Graph& Runtime::graph() const { return state_->graph; }
ThreadPool& Runtime::pool() { return state_->pool; }
Precision Runtime::precision() const { return state_->precision; }
const CacheOps& Runtime::cache() const { return *state_->cache; }

bool Runtime::mixes_tokens() const {
  return std::ranges::any_of(state_->matrices, [](const auto& each) {
    return each.second.inputs().kind == InputRounding::Kind::llm_int8;
  });
}

std::uint64_t Runtime::weight_bytes() const {
  std::uint64_t sum = 0;
  for (const auto& [name, matrix] : state_->matrices) sum += matrix.bytes();
  for (const auto& [name, values] : state_->vectors) sum += values.size() * sizeof(float);
  return sum;
}

std::uint64_t Runtime::read_bytes() const {
  std::uint64_t sum = 0;
  for (const auto* steps : {&state_->layers, &state_->after})
    for (const Step& step : *steps)
      if (step.node->kind == Node::Kind::linear) sum += step.matrix->bytes();
  return sum;
}

std::uint64_t Runtime::products() const {
  std::uint64_t sum = 0;
  for (const Step& step : state_->layers)
    if (step.node->kind == Node::Kind::linear)
      sum += 2 * std::uint64_t(step.matrix->rows() * step.matrix->columns());
  return sum;
}

}  // namespace nibble
