#include "quantize/feedback.h"

#include "arch/arch.h"
#include "container/imatrix.h"
#include "quantize/sample.h"
#include "text/tokenizer.h"

namespace nibble {
namespace {

constexpr double kShrinkages[] = {0.1, 0.3, 0.6};

}  // namespace

Result<std::unique_ptr<FeedbackSource>> FeedbackSource::open(const Model& model, Corpus corpus,
                                                             int threads) {
  auto out = std::unique_ptr<FeedbackSource>(new FeedbackSource());
  NIBBLE_TRY(out->stream_, BlockStream::open(model, std::move(corpus), threads));
  const Graph& graph = model.graph();
  for (std::size_t b = 0; b < graph.blocks.size(); ++b)
    for (const Node& node : graph.blocks[b])
      if (node.kind == Node::Kind::linear) out->weights_[node.weight] = {int(b), node.tap};
  return out;
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
    ++block_;
    NIBBLE_DO(stream_->enter(block_, !finished(block_), progress));
  }
  return {};
}

const Result<FeedbackFactor>& FeedbackSource::factor(Tap& tap, const SecondMoment& moment,
                                                     int block, double shrinkage) {
  const auto place = tap.factors.find({block, shrinkage});
  if (place != tap.factors.end()) return place->second;
  auto made = factorize(moment, block, {.shrinkage = shrinkage});
  return tap.factors.emplace(std::pair(block, shrinkage), std::move(made)).first->second;
}

Result<FeedbackChoice> FeedbackSource::choose(const std::string& weight, RoundTask& task,
                                              const Rounder& rounder,
                                              std::span<const double> shrinkages,
                                              ThreadPool& pool) {
  FeedbackChoice choice;
  const std::string& tap_name = weights_.at(weight).second;
  const TapMoments* moments = stream_->moments(tap_name);
  if (!moments) {
    choice.fallback = "no token of the text reaches it";
    return choice;
  }
  Tap& tap = taps_[tap_name];
  if (tap.mean_square.empty())
    for (std::int64_t j = 0; j < task.columns; ++j)
      tap.mean_square.push_back(moments->train.values[std::size_t(j * (task.columns + 1))]);
  task.stats = {.mean_square = tap.mean_square, .count = moments->train.count};

  Sample sample(task);
  NIBBLE_TRY([[maybe_unused]] const auto plain, rounder.round(sample.task, pool));
  choice.error = choice.error_alone = sample.error(moments->held_out);
  for (const double shrinkage : shrinkages) {
    const auto& made = factor(tap, moments->train, task.format->block(), shrinkage);
    if (!made) {
      choice.fallback = made.error().message();
      continue;
    }
    sample.task.stats.factor = &*made;
    NIBBLE_TRY([[maybe_unused]] const auto fed, rounder.round(sample.task, pool));
    const double error = sample.error(moments->held_out);
    if (!(error < choice.error)) continue;
    choice.error = error, choice.shrinkage = shrinkage;
    task.stats.factor = sample.task.stats.factor;
  }
  if (!task.stats.factor && choice.fallback.empty())
    choice.fallback = "error feedback is no better on the text held out";
  if (task.stats.factor) choice.fallback.clear();
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

Status FeedbackSource::put(const std::string& weight, const Format& format,
                           std::span<const std::byte> bytes) {
  return stream_->replace(weight, format, bytes);
}

}  // namespace nibble
