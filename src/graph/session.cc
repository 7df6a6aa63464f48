// Executes the steps of a graph on portions of a sequence.
#include <algorithm>
#include <bit>

#include "base/profile.h"
#include "graph/cache.h"
#include "graph/state.h"
#include "kernel/ops.h"

namespace nibble {
namespace {

constexpr std::size_t kChunk = 512;              // tokens run at once: bounds the activations
constexpr std::int64_t kSerialValues = 1 << 14;  // below this waking other threads costs more

bool all_finite(const float* values, std::size_t n) {
  std::uint32_t largest = 0;  // exponent bits: all set for infinity and NaN
  for (std::size_t i = 0; i < n; ++i)
    largest = std::max(largest, std::bit_cast<std::uint32_t>(values[i]) & 0x7f800000u);
  return largest != 0x7f800000u;
}

}  // namespace

struct Session::State {
  State(Runtime::State& runtime, std::uint32_t positions)
      : model(runtime),
        config(runtime.graph.config),
        context(positions),
        cache(config, runtime.precision),
        slots(std::size_t(runtime.graph.slots)) {
    for (const Step& step : model.after)
      if (step.node->head) logits_slot = step.node->out;
  }

  Runtime::State& model;
  const ModelConfig& config;
  std::uint32_t context, position = 0;
  KvCache cache;
  TapFunction tap;
  std::vector<std::vector<float>> slots;  // [tokens of a chunk][width]
  Slot logits_slot = -1;
  std::vector<float> logits;   // [wanted][vocab]
  std::size_t logits_row = 0;  // where the next logits go
  std::vector<float> cosines, sines, local_cosines, local_sines;
  std::unique_ptr<Input> input;  // of the linear layers that read one tap

  std::int64_t width(Slot slot) const { return model.graph.slot_width[std::size_t(slot)]; }
  float* at(Slot slot, std::int64_t token) {
    if (slot == logits_slot) return logits.data() + logits_row * std::size_t(config.vocab);
    return slots[std::size_t(slot)].data() + token * width(slot);
  }

  void prepare(std::size_t tokens);
  void run(const std::vector<Step>& steps, std::span<const std::uint32_t> tokens,
           std::int64_t first);
  /// Runs steps that do not look at the tokens themselves.
  void run(std::span<const Step> steps, std::size_t count) {
    for (const Step& step : steps) run_step(step, {}, 0, std::int64_t(count));
  }
  void run_step(const Step& step, std::span<const std::uint32_t> tokens, std::int64_t first,
                std::int64_t count);
  void linear(const Step& step, std::int64_t first, std::int64_t count);
  void norm(const Step& step, std::int64_t first, std::int64_t count);
  void rope(const Node& node, std::int64_t first, std::int64_t count);
  void elementwise(const Node& node, std::int64_t first, std::int64_t count);

  /// fn(begin, end) over tokens of `values` floats each, on all threads if that pays.
  template <class Fn>
  void each(std::int64_t count, std::int64_t values, const Fn& fn) {
    if (count * values <= kSerialValues) return fn(0, count);
    model.pool.run(count, std::max<std::int64_t>(1, kSerialValues / values / 4), fn);
  }
};

void Session::State::linear(const Step& step, std::int64_t first, std::int64_t count) {
  const Node& node = *step.node;
  if (step.fresh) {
    const float* values = at(node.in[0], first);
    input = std::make_unique<Input>(values, count, width(node.in[0]), model.precision);
    if (tap) tap(node.tap, values, count, width(node.in[0]));
  }
  const profile::Timed timed(profile::Phase::products,
                             2.0 * double(count * step.matrix->rows() * step.matrix->columns()));
  input->multiply(*step.matrix, step.vector, at(node.out, first), width(node.out), model.pool);
}

void Session::State::norm(const Step& step, std::int64_t first, std::int64_t count) {
  const Node& node = *step.node;
  const std::int64_t row = width(node.in[0]), group = node.width > 0 ? node.width : row;
  const float* in = at(node.in[0], first);
  float* out = at(node.out, first);
  each(count, row, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * row; i < end * row; i += group)
      ops().rms_norm(in + i, step.vector, out + i, group, config.norm_eps);
  });
}

void Session::State::rope(const Node& node, std::int64_t first, std::int64_t count) {
  const std::int64_t row = width(node.in[0]), half = config.head_dim / 2;
  const float* cosine = (node.local_rope ? local_cosines : cosines).data();
  const float* sine = (node.local_rope ? local_sines : sines).data();
  const float* in = at(node.in[0], first);
  float* out = at(node.out, first);
  each(count, row, [&](std::int64_t begin, std::int64_t end) {
    if (in != out) std::copy(in + begin * row, in + end * row, out + begin * row);
    for (std::int64_t t = begin; t < end; ++t)
      ops().rope(out + t * row, row / config.head_dim, config.head_dim, cosine + (first + t) * half,
                 sine + (first + t) * half, model.graph.rope_neighbours);
  });
}

void Session::State::elementwise(const Node& node, std::int64_t first, std::int64_t count) {
  const std::int64_t row = width(node.out);
  const float* a = at(node.in[0], first);
  const float* b = node.in.size() > 1 ? at(node.in[1], first) : a;
  float* out = at(node.out, first);
  each(count, row, [&](std::int64_t begin, std::int64_t end) {
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

void Session::State::run_step(const Step& step, std::span<const std::uint32_t> tokens,
                              std::int64_t first, std::int64_t count) {
  const Node& node = *step.node;
  switch (node.kind) {
    case Node::Kind::embed:
      for (std::int64_t t = 0; t < count; ++t) {
        float* out = at(node.out, first + t);
        step.matrix->row(tokens[std::size_t(first + t)], out);
        if (node.scale != 1)
          for (std::int64_t i = 0; i < width(node.out); ++i) out[i] *= node.scale;
      }
      return;
    case Node::Kind::norm:
      return norm(step, first, count);
    case Node::Kind::linear:
      return linear(step, first, count);
    case Node::Kind::rope:
      return rope(node, first, count);
    case Node::Kind::attend:
      cache.append(node.layer, position, count, at(node.in[1], first), at(node.in[2], first),
                   model.pool);
      return cache.attend(node, position, count, at(node.in[0], first), at(node.out, first),
                          model.pool);
    case Node::Kind::glu:
    case Node::Kind::add:
    case Node::Kind::softcap:
      return elementwise(node, first, count);
  }
}

/// Makes room for a chunk of tokens at the present position.
void Session::State::prepare(std::size_t tokens) {
  for (std::size_t i = 0; i < slots.size(); ++i)
    if (Slot(i) != logits_slot && slots[i].size() < tokens * std::size_t(width(Slot(i))))
      slots[i].resize(tokens * std::size_t(width(Slot(i))));
  model.rope.fill(position, std::int64_t(tokens), cosines, sines);
  model.local_rope.fill(position, std::int64_t(tokens), local_cosines, local_sines);
}

/// Runs tokens [first, end) of the chunk.
void Session::State::run(const std::vector<Step>& steps, std::span<const std::uint32_t> tokens,
                         std::int64_t first) {
  for (const Step& step : steps) run_step(step, tokens, first, std::int64_t(tokens.size()) - first);
}

Session::Session(Runtime& runtime, std::uint32_t context)
    : state_(std::make_unique<State>(*runtime.state_, context)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

std::uint32_t Session::position() const { return state_->position; }
std::uint32_t Session::context() const { return state_->context; }
void Session::truncate(std::uint32_t position) {
  state_->position = std::min(state_->position, position);
}
void Session::set_tap(TapFunction tap) { state_->tap = std::move(tap); }

Result<std::span<const float>> Session::forward(std::span<const std::uint32_t> tokens,
                                                Logits wanted) {
  State& s = *state_;
  const std::size_t vocab = s.config.vocab;
  if (tokens.empty()) return fail(ErrorCode::invalid, "no tokens to run");
  if (tokens.size() > s.context - s.position)
    return fail(ErrorCode::invalid, "{} tokens after {} do not fit into a context of {}",
                tokens.size(), s.position, s.context);
  for (const std::uint32_t token : tokens)
    if (token >= vocab)
      return fail(ErrorCode::invalid, "token {} is outside the vocabulary of {}", token, vocab);
  const std::size_t rows = wanted == Logits::all ? tokens.size() : wanted == Logits::last ? 1 : 0;
  s.logits.resize(rows * vocab);
  s.logits_row = 0;
  for (std::size_t begin = 0; begin < tokens.size(); begin += kChunk) {
    const auto chunk = tokens.subspan(begin, std::min(kChunk, tokens.size() - begin));
    s.prepare(chunk.size());
    s.run(s.model.layers, chunk, 0);
    s.position += std::uint32_t(chunk.size());
    const bool last = begin + chunk.size() == tokens.size();
    if (wanted == Logits::all) {
      s.run(s.model.after, chunk, 0);
      s.logits_row += chunk.size();
    } else if (wanted == Logits::last && last) {
      s.run(s.model.after, chunk, std::int64_t(chunk.size()) - 1);
    }
  }
  if (!all_finite(s.logits.data(), s.logits.size()))
    return fail(ErrorCode::corrupt, "{}: the model's output is not finite", s.model.path);
  return std::span<const float>(s.logits);
}

/// Calls use(begin, count) for chunks of tokens, whose rows of `hidden` are then in slot `entry`.
template <class Use>
Status Session::each_chunk(std::span<const float> hidden, int entry, const Use& use) {
  State& s = *state_;
  const std::size_t row = std::size_t(s.width(entry)), tokens = hidden.size() / row;
  NIBBLE_CHECK(hidden.size() == tokens * row);
  if (tokens > s.context)
    return fail(ErrorCode::invalid, "{} tokens do not fit into a context of {}", tokens, s.context);
  s.position = 0;
  for (std::size_t begin = 0; begin < tokens; begin += kChunk) {
    const std::size_t count = std::min(kChunk, tokens - begin);
    s.prepare(count);
    std::copy_n(hidden.data() + begin * row, count * row, s.at(entry, 0));
    use(begin, count);
    s.position += std::uint32_t(count);
  }
  return {};
}

Status Session::advance(std::span<float> hidden, int first, int last) {
  State& s = *state_;
  const auto& begins = s.model.begins;
  const std::span<const Step> steps =
      std::span(s.model.layers)
          .subspan(begins[std::size_t(first)],
                   begins[std::size_t(last)] - begins[std::size_t(first)]);
  if (steps.empty()) return {};
  const Slot exit = steps.back().node->out;
  const std::size_t row = std::size_t(s.width(exit));
  NIBBLE_DO(
      each_chunk(hidden, steps.front().node->in[0], [&](std::size_t begin, std::size_t count) {
        s.run(steps, count);
        std::copy_n(s.at(exit, 0), count * row, hidden.data() + begin * row);
      }));
  if (!all_finite(hidden.data(), hidden.size()))
    return fail(ErrorCode::corrupt, "{}: the model's activations are not finite", s.model.path);
  return {};
}

Status Session::listen(std::span<const float> hidden) {
  State& s = *state_;
  const std::span<const Step> steps = s.model.layers;
  const auto reads = [](const Step& step) {
    return step.node->kind == Node::Kind::linear && step.fresh;
  };
  const auto last = std::find_if(steps.rbegin(), steps.rend(), reads).base() - 1;
  return each_chunk(hidden, steps.front().node->in[0], [&](std::size_t, std::size_t count) {
    s.run(steps.first(std::size_t(last - steps.begin())), count);
    const Slot in = last->node->in[0];
    s.tap(last->node->tap, s.at(in, 0), std::int64_t(count), s.width(in));
  });
}

Result<std::span<const float>> Session::predict(std::span<const float> hidden) {
  State& s = *state_;
  const Slot entry = s.model.layers.back().node->out;
  s.logits.resize(hidden.size() / std::size_t(s.width(entry)) * s.config.vocab);
  NIBBLE_DO(each_chunk(hidden, entry, [&](std::size_t begin, std::size_t count) {
    s.logits_row = begin;
    s.run(s.model.after, count);
  }));
  if (!all_finite(s.logits.data(), s.logits.size()))
    return fail(ErrorCode::corrupt, "{}: the model's output is not finite", s.model.path);
  return std::span<const float>(s.logits);
}

}  // namespace nibble
