#include "quantize/feedback.h"

#include <algorithm>

#include "arch/arch.h"
#include "container/imatrix.h"
#include "round/search.h"
#include "text/tokenizer.h"

namespace nibble {
namespace {

constexpr double kShrinkages[] = {0.1, 0.3, 0.6};
constexpr std::uint32_t kContext = 512;  // tokens a window
constexpr std::uint64_t kWindows = 256;  // 131072 tokens
constexpr std::int64_t kSampledStrips = 4;

/// Some strips of a matrix, evenly spread, as a task of their own.
struct Sample {
  explicit Sample(const RoundTask& whole) : task(whole) {
    const std::int64_t strips = (whole.rows + kStripRows - 1) / kStripRows;
    const std::int64_t wanted = std::min(strips, kSampledStrips);
    weights.resize(std::size_t(wanted * kStripRows * whole.columns));
    task.rows = 0;
    for (std::int64_t i = 0; i < wanted; ++i) {
      const std::int64_t begin = strips * i / wanted * kStripRows;
      const std::int64_t end = std::min(whole.rows, begin + kStripRows);
      whole.load(begin, end, weights.data() + task.rows * whole.columns);
      task.rows += end - begin;
    }
    weights.resize(std::size_t(task.rows * whole.columns));
    bytes.resize(std::size_t(task.rows) * task.format->row_bytes(std::size_t(task.columns)));
    task.out = bytes;
    task.load = [this](std::int64_t begin, std::int64_t end, float* out) {
      std::copy(weights.begin() + begin * task.columns, weights.begin() + end * task.columns, out);
    };
  }
  Sample(const Sample&) = delete;
  Sample& operator=(const Sample&) = delete;

  /// The error on `moment` of what was written.
  double error(const SecondMoment& moment) const {
    std::vector<float> errors(weights.size());
    task.format->decode(task.out.data(), weights.size() / std::size_t(task.format->block()),
                        errors.data());
    for (std::size_t i = 0; i < errors.size(); ++i) errors[i] -= weights[i];
    return output_error(moment, errors.data(), task.rows);
  }

  RoundTask task;
  std::vector<float> weights;
  std::vector<std::byte> bytes;
};

}  // namespace

Result<std::unique_ptr<FeedbackSource>> FeedbackSource::open(const QuantizeOptions& options,
                                                             Progress& progress) {
  if (!options.calibration.empty() && is_imatrix(options.calibration))
    return fail(ErrorCode::invalid,
                "{}: an importance matrix; error feedback needs the text itself, or --recipe "
                "importance",
                options.calibration);
  auto out = std::unique_ptr<FeedbackSource>(new FeedbackSource());
  NIBBLE_TRY(Model model, Model::open(options.source));
  out->model_ = std::make_unique<Model>(std::move(model));
  NIBBLE_TRY_IN(options.source, const Tokenizer tokenizer, Tokenizer::open(out->model_->source()));
  const CorpusOptions corpus_options{
      .text = options.calibration,
      .context = std::min(kContext, out->model_->config().context),
      .windows = options.calibration_chunks > 0 ? options.calibration_chunks : kWindows};
  std::unique_ptr<Runtime> writer;  // only where the model writes the text itself
  if (options.calibration.empty()) {
    NIBBLE_TRY_IN(options.source, writer,
                  Runtime::load(*out->model_, {.threads = options.threads}, progress));
  }
  NIBBLE_TRY(Corpus corpus, make_corpus(corpus_options, tokenizer, writer.get(), progress));
  out->name_ = corpus.name;
  out->sha256_ = corpus.sha256;
  NIBBLE_TRY(out->stream_, BlockStream::open(*out->model_, std::move(corpus), options.threads));
  const Graph& graph = out->model_->graph();
  for (std::size_t b = 0; b < graph.blocks.size(); ++b)
    for (const Node& node : graph.blocks[b])
      if (node.kind == Node::Kind::linear) out->weights_[node.weight] = {int(b), node.tap};
  return out;
}

int FeedbackSource::block_of(const std::string& weight) const {
  const auto found = weights_.find(weight);
  return found == weights_.end() ? -1 : found->second.first;
}

Status FeedbackSource::enter(int block, const Progress& progress) {
  while (block_ < block) {
    if (block_ >= 0) NIBBLE_DO(stream_->leave(progress));
    taps_.clear();
    NIBBLE_DO(stream_->enter(++block_, progress));
  }
  return {};
}

const FeedbackFactor* FeedbackSource::factor(Tap& tap, const SecondMoment& moment, int block,
                                             double shrinkage) {
  const auto [place, fresh] = tap.factors.try_emplace({block, shrinkage});
  if (fresh) {
    if (auto made = factorize(moment, block, {.shrinkage = shrinkage}))
      place->second = std::move(*made);
  }
  return place->second ? &*place->second : nullptr;
}

Result<RoundReport> FeedbackSource::round(const std::string& weight, RoundTask task,
                                          const Rounder& rounder, FeedbackChoice& choice,
                                          ThreadPool& pool) {
  const std::string& tap_name = weights_.at(weight).second;
  const TapMoments* moments = stream_->moments(tap_name);
  if (!moments) return find_rounder("nearest")->round(task, pool);
  Tap& tap = taps_[tap_name];
  if (tap.mean_square.empty())
    for (std::int64_t j = 0; j < task.columns; ++j)
      tap.mean_square.push_back(moments->train.values[std::size_t(j * (task.columns + 1))]);
  task.stats = {.mean_square = tap.mean_square, .count = moments->train.count};

  Sample sample(task);
  NIBBLE_TRY([[maybe_unused]] const auto plain, rounder.round(sample.task, pool));
  choice.error = choice.error_alone = sample.error(moments->held_out);
  const int block = task.format->block();
  for (const double shrinkage : kShrinkages) {
    sample.task.stats.factor = factor(tap, moments->train, block, shrinkage);
    if (!sample.task.stats.factor) continue;
    NIBBLE_TRY([[maybe_unused]] const auto fed, rounder.round(sample.task, pool));
    const double error = sample.error(moments->held_out);
    if (!(error < choice.error)) continue;
    choice.error = error, choice.shrinkage = shrinkage;
    task.stats.factor = sample.task.stats.factor;
  }
  return rounder.round(task, pool);
}

Status FeedbackSource::put(const std::string& weight, const Format& format,
                           std::span<const std::byte> bytes) {
  return stream_->replace(weight, format, bytes);
}

}  // namespace nibble
