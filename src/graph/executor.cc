#include "graph/executor.h"

#include <algorithm>

#include "base/profile.h"
#include "kernel/ops.h"

namespace nibble {
namespace {

constexpr std::int64_t kSerialValues = 1 << 14;  // below this waking other threads costs more

}  // namespace

Executor::Executor(Runtime::State& model)
    : model_(model), config_(model.graph.config), slots_(std::size_t(model.graph.slots)) {
  for (const Step& step : model_.after)
    if (step.node->head) logits_slot_ = step.node->out;
}

Status Executor::begin(std::span<const Portion> portions) {
  portions_.assign(portions.begin(), portions.end());
  counts_.clear();
  rows_ = 0;
  for (const Portion& portion : portions) {
    NIBBLE_CHECK(portion.begin == rows_);
    NIBBLE_DO(portion.cache->reserve(portion.position, portion.count));
    counts_.push_back(portion.count);
    rows_ += portion.count;
  }
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const auto needed = std::size_t(rows_ * width(Slot(i)));
    if (Slot(i) != logits_slot_ && slots_[i].size() < needed) slots_[i].resize(needed);
  }
  const std::int64_t half = config_.head_dim / 2;
  for (auto* angles : {&cosines_, &sines_, &local_cosines_, &local_sines_})
    angles->resize(std::size_t(rows_ * half));
  for (const Portion& p : portions) {
    const std::int64_t row = p.begin * half;
    model_.rope.fill(p.position, p.count, &cosines_[row], &sines_[row]);
    model_.local_rope.fill(p.position, p.count, &local_cosines_[row], &local_sines_[row]);
  }
  return {};
}

void Executor::run(std::span<const Step> steps, std::span<const std::uint32_t> tokens) {
  for (const Step& step : steps) run_step(step, tokens);
}

void Executor::finish(std::span<const std::int64_t> wanted, float* logits) {
  const Slot entry = model_.layers.back().node->out;
  std::int64_t rows = 0;
  for (std::size_t i = 0; i < portions_.size(); ++i) {
    const std::int64_t from = portions_[i].begin + portions_[i].count - wanted[i];
    if (from != rows) std::copy_n(at(entry, from), wanted[i] * width(entry), at(entry, rows));
    rows += wanted[i];
  }
  counts_.assign(wanted.begin(), wanted.end());
  rows_ = rows;
  logits_ = logits;
  if (rows_ > 0) run(model_.after);
}

template <class Fn>
void Executor::each(std::int64_t values, const Fn& fn) {
  if (rows_ * values <= kSerialValues) return fn(0, rows_);
  model_.pool.run(rows_, std::max<std::int64_t>(1, kSerialValues / values / 4), fn);
}

void Executor::embed(const Step& step, std::span<const std::uint32_t> tokens) {
  const Node& node = *step.node;
  for (std::int64_t t = 0; t < rows_; ++t) {
    float* out = at(node.out, t);
    step.matrix->row(tokens[std::size_t(t)], out);
    if (node.scale != 1)
      for (std::int64_t i = 0; i < width(node.out); ++i) out[i] *= node.scale;
  }
}

void Executor::linear(const Step& step) {
  const Node& node = *step.node;
  if (step.fresh) {
    const float* values = at(node.in[0], 0);
    input_ = std::make_unique<Input>(values, rows_, width(node.in[0]), model_.precision, counts_);
    if (tap) tap(node.tap, values, rows_, width(node.in[0]));
  }
  const profile::Timed timed(profile::Phase::products,
                             2.0 * double(rows_ * step.matrix->rows() * step.matrix->columns()));
  input_->multiply(*step.matrix, step.vector, at(node.out, 0), width(node.out), model_.pool);
}

void Executor::norm(const Step& step) {
  const Node& node = *step.node;
  const std::int64_t row = width(node.in[0]), group = node.width > 0 ? node.width : row;
  const float* in = at(node.in[0], 0);
  float* out = at(node.out, 0);
  each(row, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * row; i < end * row; i += group)
      ops().rms_norm(in + i, step.vector, out + i, group, config_.norm_eps);
  });
}

void Executor::rope(const Node& node) {
  const std::int64_t row = width(node.in[0]), half = config_.head_dim / 2;
  const float* cosine = (node.local_rope ? local_cosines_ : cosines_).data();
  const float* sine = (node.local_rope ? local_sines_ : sines_).data();
  const float* in = at(node.in[0], 0);
  float* out = at(node.out, 0);
  each(row, [&](std::int64_t begin, std::int64_t end) {
    if (in != out) std::copy(in + begin * row, in + end * row, out + begin * row);
    for (std::int64_t t = begin; t < end; ++t)
      ops().rope(out + t * row, row / config_.head_dim, config_.head_dim, cosine + t * half,
                 sine + t * half, model_.graph.rope_neighbours);
  });
}

void Executor::attend(const Node& node) {
  append_to_caches(node, portions_, at(node.in[1], 0), at(node.in[2], 0), model_.pool);
  attend_to_caches(node, portions_, int(config_.heads / config_.kv_heads), at(node.in[0], 0),
                   at(node.out, 0), model_.pool);
}

void Executor::elementwise(const Node& node) {
  const std::int64_t row = width(node.out);
  const float* a = at(node.in[0], 0);
  const float* b = node.in.size() > 1 ? at(node.in[1], 0) : a;
  float* out = at(node.out, 0);
  each(row, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t i = begin * row, n = (end - begin) * row;
    if (node.kind == Node::Kind::add) {
      ops().add(a + i, b + i, out + i, n);
    } else if (node.kind == Node::Kind::softcap) {
      if (a != out) std::copy(a + i, a + i + n, out + i);
      ops().softcap(out + i, n, node.cap);
    } else if (node.activation == Node::Activation::silu) {
      ops().silu_mul(a + i, b + i, out + i, n);
    } else {
      ops().gelu_mul(a + i, b + i, out + i, n);
    }
  });
}

void Executor::run_step(const Step& step, std::span<const std::uint32_t> tokens) {
  switch (step.node->kind) {
    case Node::Kind::embed:
      return embed(step, tokens);
    case Node::Kind::norm:
      return norm(step);
    case Node::Kind::linear:
      return linear(step);
    case Node::Kind::rope:
      return rope(*step.node);
    case Node::Kind::attend:
      return attend(*step.node);
    case Node::Kind::glu:
    case Node::Kind::add:
    case Node::Kind::softcap:
      return elementwise(*step.node);
  }
}

}  // namespace nibble
