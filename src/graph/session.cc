// Sequences: each by itself, or several that advance together.
#include <algorithm>
#include <bit>

#include "graph/executor.h"

namespace nibble {
namespace {

bool all_finite(std::span<const float> values) {
  std::uint32_t largest = 0;  // exponent bits: all set for infinity and NaN
  for (const float value : values)
    largest = std::max(largest, std::bit_cast<std::uint32_t>(value) & 0x7f800000u);
  return largest != 0x7f800000u;
}

std::int64_t rows_of(Logits wanted, std::size_t tokens) {
  return wanted == Logits::all ? std::int64_t(tokens) : wanted == Logits::last ? 1 : 0;
}

}  // namespace

struct Session::State {
  State(Runtime::State& runtime, std::uint32_t positions, std::shared_ptr<KvPagePool> pages)
      : model(runtime),
        context(positions),
        shares(pages != nullptr),
        cache(shares ? std::move(pages)
                     : std::make_shared<KvPagePool>(runtime.graph.config, *runtime.cache)) {}

  Runtime::State& model;
  std::uint32_t context, position = 0;
  bool shares;  // its pages with other sequences
  KvCache cache;
  std::vector<std::uint32_t> history;   // the tokens of the positions, if it shares
  std::unique_ptr<Executor> executor_;  // made when it runs by itself
  TapFunction tap;
  std::vector<float> logits;  // [wanted][vocab]

  Executor& executor() {
    if (!executor_) executor_ = std::make_unique<Executor>(model);
    executor_->tap = tap;
    return *executor_;
  }
  Status check(std::span<const std::uint32_t> tokens) const;
  /// Runs all blocks over checked tokens, in portions; calls use(executor, is_last) after each.
  template <class Use>
  Status run(std::span<const std::uint32_t> tokens, const Use& use);
  Status finite(std::span<const float> values, const char* what) const {
    if (all_finite(values)) return {};
    return fail(ErrorCode::corrupt, "{}: the model's {} not finite", model.path, what);
  }
  /// Says that `tokens` are in the cache now.
  void advance(std::span<const std::uint32_t> tokens) {
    position += std::uint32_t(tokens.size());
    if (!shares) return;
    history.insert(history.end(), tokens.begin(), tokens.end());
    cache.publish(history);
  }
  void truncate(std::uint32_t to) {
    position = std::min(position, to);
    cache.truncate(position);
    if (shares) history.resize(position);
  }
};

Status Session::State::check(std::span<const std::uint32_t> tokens) const {
  if (tokens.empty()) return fail(ErrorCode::invalid, "no tokens to run");
  if (tokens.size() > context - position)
    return fail(ErrorCode::invalid, "{} tokens after {} do not fit into a context of {}",
                tokens.size(), position, context);
  const std::uint32_t vocab = model.graph.config.vocab;
  for (const std::uint32_t token : tokens)
    if (token >= vocab)
      return fail(ErrorCode::invalid, "token {} is outside the vocabulary of {}", token, vocab);
  return {};
}

template <class Use>
Status Session::State::run(std::span<const std::uint32_t> tokens, const Use& use) {
  for (std::size_t begin = 0; begin < tokens.size(); begin += Executor::kRows) {
    const auto chunk = tokens.subspan(begin, std::min(Executor::kRows, tokens.size() - begin));
    const Portion portion{&cache, position, 0, std::int64_t(chunk.size())};
    NIBBLE_DO(executor().begin(std::span(&portion, 1)));
    executor().run(model.layers, chunk);
    use(executor(), begin + chunk.size() == tokens.size());
    advance(chunk);
  }
  return {};
}

Session::Session(Runtime& runtime, std::uint32_t context, std::shared_ptr<KvPagePool> pages)
    : state_(std::make_unique<State>(*runtime.state_, context, std::move(pages))) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

std::uint32_t Session::position() const { return state_->position; }
std::uint32_t Session::context() const { return state_->context; }
void Session::truncate(std::uint32_t position) { state_->truncate(position); }
void Session::set_tap(TapFunction tap) { state_->tap = std::move(tap); }

std::uint32_t Session::reuse(std::span<const std::uint32_t> tokens) {
  State& s = *state_;
  if (!s.shares) return s.position;
  s.position = s.cache.reuse(tokens.first(std::min<std::size_t>(tokens.size(), s.context)));
  s.history.assign(tokens.begin(), tokens.begin() + s.position);
  return s.position;
}

Status Session::pretend(std::uint32_t tokens) {
  State& s = *state_;
  NIBBLE_CHECK(!s.shares);
  if (tokens > s.context)
    return fail(ErrorCode::invalid, "{} tokens do not fit into a context of {}", tokens, s.context);
  s.truncate(0);
  NIBBLE_DO(s.cache.blank(tokens));
  s.position = tokens;
  return {};
}

Result<std::span<const float>> Session::forward(std::span<const std::uint32_t> tokens,
                                                Logits wanted) {
  State& s = *state_;
  NIBBLE_DO(s.check(tokens));
  const std::size_t vocab = s.model.graph.config.vocab;
  s.logits.resize(std::size_t(rows_of(wanted, tokens.size())) * vocab);
  float* logits = s.logits.data();
  NIBBLE_DO(s.run(tokens, [&](Executor& executor, bool last) {
    const bool scored = wanted == Logits::all || last;
    const std::int64_t rows = scored ? rows_of(wanted, std::size_t(executor.rows())) : 0;
    executor.finish(std::span(&rows, 1), logits);
    logits += rows * std::int64_t(vocab);
  }));
  NIBBLE_DO(s.finite(s.logits, "output is"));
  return std::span<const float>(s.logits);
}

Result<std::vector<float>> Session::embed(std::span<const std::uint32_t> tokens) {
  State& s = *state_;
  NIBBLE_DO(s.check(tokens));
  const auto is_head = [](const Step& step) { return step.node->head; };
  const auto head = std::find_if(s.model.after.begin(), s.model.after.end(), is_head);
  const std::span<const Step> norm(s.model.after.begin(), head);
  const Slot slot = head->node->in[0];
  std::vector<double> sum(std::size_t(s.executor().width(slot)));
  NIBBLE_DO(s.run(tokens, [&](Executor& executor, bool) {
    executor.run(norm);
    for (std::int64_t row = 0; row < executor.rows(); ++row)
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += double(executor.at(slot, row)[i]);
  }));
  std::vector<float> mean;
  for (const double value : sum) mean.push_back(float(value / double(tokens.size())));
  NIBBLE_DO(s.finite(mean, "output is"));
  return mean;
}

/// Calls use(begin) for chunks of tokens, whose rows of `hidden` are then in slot `entry`.
template <class Use>
Status Session::each_chunk(std::span<const float> hidden, int entry, const Use& use) {
  State& s = *state_;
  Executor& executor = s.executor();
  const auto row = std::size_t(executor.width(entry)), tokens = hidden.size() / row;
  NIBBLE_CHECK(hidden.size() == tokens * row);
  if (tokens > s.context)
    return fail(ErrorCode::invalid, "{} tokens do not fit into a context of {}", tokens, s.context);
  s.position = 0;
  for (std::size_t begin = 0; begin < tokens; begin += Executor::kRows) {
    const std::size_t count = std::min(Executor::kRows, tokens - begin);
    const Portion portion{&s.cache, s.position, 0, std::int64_t(count)};
    NIBBLE_DO(executor.begin(std::span(&portion, 1)));
    std::copy_n(hidden.data() + begin * row, count * row, executor.at(entry, 0));
    use(executor, begin);
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
  NIBBLE_DO(
      each_chunk(hidden, steps.front().node->in[0], [&](Executor& executor, std::size_t begin) {
        executor.run(steps);
        const std::int64_t row = executor.width(exit);
        std::copy_n(executor.at(exit, 0), executor.rows() * row,
                    hidden.data() + std::int64_t(begin) * row);
      }));
  return s.finite(hidden, "activations are");
}

Status Session::listen(std::span<const float> hidden) {
  const std::span<const Step> steps = state_->model.layers;
  const auto reads = [](const Step& step) {
    return step.node->kind == Node::Kind::linear && step.fresh;
  };
  const auto last = std::find_if(steps.rbegin(), steps.rend(), reads).base() - 1;
  return each_chunk(hidden, steps.front().node->in[0], [&](Executor& executor, std::size_t) {
    executor.run(steps.first(std::size_t(last - steps.begin())));
    const Slot in = last->node->in[0];
    executor.tap(last->node->tap, executor.at(in, 0), executor.rows(), executor.width(in));
  });
}

Result<std::span<const float>> Session::predict(std::span<const float> hidden) {
  State& s = *state_;
  const Slot entry = s.model.layers.back().node->out;
  const std::size_t vocab = s.model.graph.config.vocab;
  s.logits.resize(hidden.size() / std::size_t(s.executor().width(entry)) * vocab);
  NIBBLE_DO(each_chunk(hidden, entry, [&](Executor& executor, std::size_t begin) {
    const std::int64_t rows = executor.rows();
    executor.finish(std::span(&rows, 1), s.logits.data() + begin * vocab);
  }));
  NIBBLE_DO(s.finite(s.logits, "output is"));
  return std::span<const float>(s.logits);
}

struct Batch::State {
  explicit State(Runtime::State& runtime) : model(runtime), executor(runtime) {}

  struct Rows {
    const Session::State* session;
    std::size_t begin, count;  // of logits
  };

  Runtime::State& model;
  Executor executor;
  std::vector<Portion> portions;
  std::vector<std::uint32_t> tokens;
  std::vector<std::int64_t> wanted;
  std::vector<Rows> rows;
  std::vector<float> logits;
};

Batch::Batch(Runtime& runtime) : state_(std::make_unique<State>(*runtime.state_)) {}
Batch::~Batch() = default;

Status Batch::forward(std::span<const Part> parts) {
  State& s = *state_;
  s.portions.clear(), s.tokens.clear(), s.wanted.clear(), s.rows.clear();
  std::size_t rows = 0;
  for (const Part& part : parts) {
    Session::State& session = *part.session->state_;
    NIBBLE_CHECK(&session.model == &s.model);
    NIBBLE_DO(session.check(part.tokens));
    const std::int64_t wanted = rows_of(part.wanted, part.tokens.size());
    s.portions.push_back({&session.cache, session.position, std::int64_t(s.tokens.size()),
                          std::int64_t(part.tokens.size())});
    s.tokens.insert(s.tokens.end(), part.tokens.begin(), part.tokens.end());
    s.wanted.push_back(wanted);
    s.rows.push_back({&session, rows, std::size_t(wanted)});
    rows += std::size_t(wanted);
  }
  NIBBLE_CHECK(s.tokens.size() <= kTokens);
  if (parts.empty()) return {};
  s.logits.resize(rows * s.model.graph.config.vocab);
  NIBBLE_DO(s.executor.begin(s.portions));
  s.executor.run(s.model.layers, s.tokens);
  s.executor.finish(s.wanted, s.logits.data());
  for (const Part& part : parts) part.session->state_->advance(part.tokens);
  return {};
}

Result<std::span<const float>> Batch::logits(std::size_t part) const {
  const State::Rows& rows = state_->rows[part];
  const std::size_t vocab = state_->model.graph.config.vocab;
  const auto values = std::span(state_->logits).subspan(rows.begin * vocab, rows.count * vocab);
  NIBBLE_DO(rows.session->finite(values, "output is"));
  return std::span<const float>(values);
}

}  // namespace nibble
