#include "quantize/feedback.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "arch/arch.h"
#include "container/imatrix.h"
#include "text/tokenizer.h"

namespace nibble {
namespace {

constexpr double kShrinkages[] = {0.1, 0.3, 0.6};
/// The part of the correction that is made, GPTAQ's alpha. The whole is best for the outputs of
/// every layer, and worst for the model: blocks no longer undo what those before them got wrong,
/// and the residual stream drifts ever farther. (SmolLM2-135M at Q2_K, KL divergence: 0.137 without
/// any, 0.123 with a quarter, 0.98 with all of it.)
constexpr float kCorrection = 0.25f;
constexpr std::uint64_t kOverhead = 600u << 20;  // the program, one window, tensors being written

SecondMoment sorted(const SecondMoment& moment, const std::vector<std::uint32_t>& order) {
  SecondMoment out{.columns = moment.columns, .count = moment.count, .values = {}};
  out.values.reserve(moment.values.size());
  for (const std::uint32_t row : order)
    for (const std::uint32_t column : order)
      out.values.push_back(moment.values[row * std::size_t(moment.columns) + column]);
  for (std::size_t j = 0; j < moment.largest.size(); ++j)
    out.largest.push_back(moment.largest[order[j]]);
  return out;
}

/// Column j is the one that was order[j].
decltype(RoundTask::load) in_order(decltype(RoundTask::load) load, const ColumnOrder& order) {
  return [load = std::move(load), order](std::int64_t begin, std::int64_t end, float* out) {
    load(begin, end, out);
    std::vector<float> row(order->size());
    for (std::int64_t r = begin; r < end; ++r, out += row.size()) {
      for (std::size_t j = 0; j < row.size(); ++j) row[j] = out[(*order)[j]];
      std::ranges::copy(row, out);
    }
  };
}

}  // namespace

Result<std::unique_ptr<FeedbackSource>> FeedbackSource::open(const Model& model,
                                                             const Corpus& corpus, int threads,
                                                             const std::string& folder,
                                                             bool act_order, bool reference) {
  auto out = std::unique_ptr<FeedbackSource>(new FeedbackSource());
  out->act_order_ = act_order;
  NIBBLE_TRY(out->stream_, BlockStream::open(model, corpus, threads, folder, reference));
  const Graph& graph = model.graph();
  for (std::size_t b = 0; b < graph.blocks.size(); ++b)
    for (const Node& node : graph.blocks[b])
      if (node.kind == Node::Kind::linear) out->weights_[node.weight] = {int(b), node.tap};
  return out;
}

std::uint64_t FeedbackSource::memory_needed(const Model& model, bool reference) {
  std::uint64_t most = 0;
  for (const auto& nodes : model.graph().blocks) {
    std::map<std::string, std::pair<std::uint64_t, int>> taps;  // width, weights
    std::uint64_t bytes = 0, factors = 0, target = 0;
    for (const Node& node : nodes) {
      if (node.kind != Node::Kind::linear) continue;
      const TensorInfo& weight = model.tensors()[*model.find(node.weight)];
      bytes += weight.bytes;
      if (reference) target = std::max(target, weight.elements() * sizeof(float));
      taps[node.tap].first = weight.columns();
      ++taps[node.tap].second;
    }
    for (const auto& [name, tap] : taps) {
      const std::uint64_t square = tap.first * tap.first;
      // Moments, and those held out; of the drift, with its square.
      bytes += (reference ? 5 : 2) * sizeof(float) * square;
      // H, half of U, and where they come from; for several weights they stay.
      const std::uint64_t kept = tap.second > 1 ? std::size(kShrinkages) : 1;
      factors = std::max(factors, square * (3 * kept + 2) / 2 * sizeof(float));
      if (reference) factors += square * (kept + 1) * sizeof(float);  // corrections, dense U
    }
    most = std::max(most, bytes + factors + target);
  }
  return most + kOverhead;
}

std::uint64_t FeedbackSource::activation_bytes(const Model& model, const Corpus& corpus,
                                               bool reference) {
  return corpus.tokens() * model.config().hidden * sizeof(std::uint16_t) * (reference ? 2 : 1);
}

int FeedbackSource::block_of(const std::string& weight) const {
  const auto found = weights_.find(weight);
  return found == weights_.end() ? -1 : found->second.first;
}

Status FeedbackSource::enter(int block, const std::function<bool(int)>& finished,
                             const Progress& progress) {
  while (block_ < block) {
    if (block_ >= 0) NIBBLE_DO(stream_->leave(progress));
    taps_.clear();
    for (const auto& [weight, place] : weights_)
      if (place.first == block_ + 1) ++taps_[place.second].weights;
    ++block_;
    NIBBLE_DO(stream_->enter(block_, !finished(block_), progress));
  }
  return {};
}

const Result<FeedbackFactor>& FeedbackSource::factor(Tap& tap, const SecondMoment& moment,
                                                     int block, double shrinkage,
                                                     ThreadPool& pool) {
  const auto place = tap.factors.find({block, shrinkage});
  if (place != tap.factors.end()) return place->second;
  if (tap.weights == 1) tap.factors.clear();  // nobody will ask again, and they are large
  auto made = factorize(moment, block, {.shrinkage = shrinkage}, pool);
  return tap.factors.emplace(std::pair(block, shrinkage), std::move(made)).first->second;
}

const TapMoments* FeedbackSource::moments(const std::string& tap) {
  const auto found = taps_.find(tap);
  return found != taps_.end() && found->second.sorted ? &*found->second.sorted
                                                      : stream_->moments(tap);
}

/// Takes the place of what the stream has, which then needs no memory.
void FeedbackSource::sort(const std::string& name, Tap& tap, const TapMoments& moments) {
  std::vector<std::uint32_t> order(tap.mean_square.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return tap.mean_square[a] > tap.mean_square[b];
  });
  tap.sorted = TapMoments{sorted(moments.train, order), sorted(moments.held_out, order)};
  if (const auto& drift = moments.drift)
    tap.sorted->drift = Drift{sorted(drift->train, order), sorted(drift->held_out, order),
                              sorted(drift->square, order)};
  for (std::size_t j = 0; j < order.size(); ++j)
    tap.mean_square[j] = tap.sorted->train.mean_square(std::int64_t(j));
  tap.order = std::make_shared<const std::vector<std::uint32_t>>(std::move(order));
  stream_->forget(name);
}

Status FeedbackSource::correct(Tap& tap, const TapMoments& moments, RoundTask& task,
                               MatrixSample& sample, const Rounder& rounder, FeedbackChoice& choice,
                               ThreadPool& pool) {
  const std::pair key(task.format->block(), choice.shrinkage);
  auto place = tap.corrections.find(key);
  if (place == tap.corrections.end()) {
    if (tap.weights == 1) tap.corrections.clear();
    place = tap.corrections
                .emplace(key, drift_correction(moments.train, moments.drift->train,
                                               *task.stats.factor, pool))
                .first;
  }
  if (place->second.empty()) return {};
  sample.task.stats = task.stats;
  sample.task.stats.correction = place->second.data();
  sample.task.stats.strength = kCorrection;
  NIBBLE_TRY([[maybe_unused]] const auto rounded, rounder.round(sample.task, pool));
  const double error = sample.error(moments.held_out, *moments.drift);
  if (!(error < choice.error)) return {};
  choice.error = error;
  choice.correction = kCorrection;
  task.stats = sample.task.stats;
  return {};
}

Result<FeedbackChoice> FeedbackSource::choose(const std::string& weight, RoundTask& task,
                                              const Rounder& rounder,
                                              std::span<const double> shrinkages,
                                              ThreadPool& pool) {
  FeedbackChoice choice;
  const std::string& tap_name = weights_.at(weight).second;
  const TapMoments* moments = this->moments(tap_name);
  if (!moments) {
    choice.fallback = "no token of the text reaches it";
    return choice;
  }
  Tap& tap = taps_[tap_name];
  if (tap.mean_square.empty())
    for (std::int64_t j = 0; j < task.columns; ++j)
      tap.mean_square.push_back(moments->train.mean_square(j));
  for (const float value : tap.mean_square)
    if (!std::isfinite(value)) {
      choice.fallback = "its inputs are not finite";
      return choice;
    }
  if (act_order_ && !tap.order) sort(tap_name, tap, *moments), moments = &*tap.sorted;
  if (tap.order) task.load = in_order(std::move(task.load), tap.order);
  task.stats = {.mean_square = tap.mean_square, .count = moments->train.count};

  MatrixSample sample(task);
  const int block = task.format->block();
  NIBBLE_TRY([[maybe_unused]] const auto plain, rounder.round(sample.task, pool));
  const auto held_out_error = [&] {
    return moments->drift ? sample.error(moments->held_out, *moments->drift)
                          : sample.error(moments->held_out);
  };
  choice.error = choice.error_alone = held_out_error();
  choice.fallback = "error feedback is no better on the text held out";
  for (const double shrinkage : shrinkages) {
    const auto& made = factor(tap, moments->train, block, shrinkage, pool);
    if (!made) {
      choice.fallback = made.error().message();
      continue;
    }
    sample.task.stats.factor = &*made;
    NIBBLE_TRY([[maybe_unused]] const auto fed, rounder.round(sample.task, pool));
    const double error = held_out_error();
    if (!(error < choice.error)) continue;
    choice.error = error, choice.shrinkage = shrinkage;
  }
  if (choice.shrinkage == FeedbackChoice{}.shrinkage) return choice;
  choice.fallback.clear();
  task.stats.factor = &*factor(tap, moments->train, block, choice.shrinkage, pool);
  if (moments->drift && rounder.needs_reference())
    NIBBLE_DO(correct(tap, *moments, task, sample, rounder, choice, pool));
  return choice;
}

Result<RoundReport> FeedbackSource::round(const std::string& weight, RoundTask task,
                                          const Rounder& rounder, FeedbackChoice& choice,
                                          ThreadPool& pool) {
  NIBBLE_TRY(choice, choose(weight, task, rounder, kShrinkages, pool));
  const bool unknown = task.stats.mean_square.empty();
  return (unknown ? *find_rounder("nearest") : rounder).round(task, pool);
}

std::span<const float> FeedbackSource::mean_square(const std::string& weight) const {
  const auto tap = taps_.find(weights_.at(weight).second);
  return tap == taps_.end() ? std::span<const float>{} : std::span(tap->second.mean_square);
}

float FeedbackSource::largest(const std::string& weight) {
  const TapMoments* found = moments(weights_.at(weight).second);
  float out = 0;
  if (found)
    for (const SecondMoment* moment : {&found->train, &found->held_out})
      for (const float value : moment->largest) out = std::max(out, value);
  return out;
}

ColumnOrder FeedbackSource::order(const std::string& weight) const {
  const auto tap = taps_.find(weights_.at(weight).second);
  return tap == taps_.end() ? nullptr : tap->second.order;
}

Status FeedbackSource::put(const std::string& weight, const Format& format,
                           std::span<const std::byte> bytes, const ColumnOrder& order) {
  const std::string& tap = weights_.at(weight).second;
  if (--taps_[tap].weights == 0) {
    taps_.erase(tap);
    stream_->forget(tap);
  }
  return stream_->replace(weight, format, bytes, order);
}

}  // namespace nibble
