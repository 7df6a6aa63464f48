#include "calib/calibrate.h"

#include <sys/stat.h>

#include <chrono>
#include <cmath>

#include "base/file.h"
#include "calib/statistics.h"

namespace nibble {
namespace {

Status feed(const Corpus& corpus, Runtime& runtime, std::uint32_t context,
            InputStatistics& statistics, Progress& progress) {
  Session session(runtime, context);
  session.set_tap([&](const std::string& tap, const float* values, std::int64_t tokens,
                      std::int64_t width) { statistics.add(tap, values, tokens, width); });
  progress.begin("calibrating", corpus.windows.size(), "windows");
  for (std::size_t i = 0; i < corpus.windows.size(); ++i) {
    if (progress.cancelled()) return fail(ErrorCode::cancelled, "stopped after {} windows", i);
    session.truncate(0);
    NIBBLE_TRY_IN(fmt::format("{}: window {}", corpus.name, i + 1),
                  [[maybe_unused]] const auto logits, session.forward(corpus.windows[i]));
    progress.update(i + 1);
  }
  progress.end();
  return {};
}

/// Means of the squares, under the name of each weight. Errors: activations that are not finite.
Result<Imatrix> imatrix_of(const InputStatistics& statistics, const Graph& graph) {
  Imatrix out;
  for (const auto& [weight, tap_name] : tapped_weights(graph)) {
    const auto tap = statistics.taps().find(tap_name);
    if (tap == statistics.taps().end()) continue;
    ImatrixEntry entry;
    entry.count = {float(tap->second.count)};
    for (const double sum : tap->second.square_sums) {
      const double mean = sum / double(tap->second.count);
      if (!std::isfinite(float(mean)))
        return fail(ErrorCode::invalid,
                    "the inputs of '{}' are not finite; the model overflows on this text", weight);
      entry.mean_square.push_back(float(mean));
    }
    out.entries.emplace(weight, std::move(entry));
  }
  return out;
}

}  // namespace

Result<Calibration> run_calibration(const Model& model, const CalibrateOptions& options,
                                    Progress& progress) {
  const std::string& path = model.source().path();
  NIBBLE_TRY_IN(path, const Tokenizer tokenizer, Tokenizer::open(model.source()));
  NIBBLE_TRY_IN(
      path, const auto runtime,
      Runtime::load(model, {.threads = options.threads, .precision = Precision::exact}, progress));
  const std::uint32_t context = std::min(options.context, model.config().context);
  const CorpusOptions corpus_options{
      .text = options.text, .context = context, .windows = options.chunks, .seed = options.seed};
  NIBBLE_TRY(const Corpus corpus, make_corpus(corpus_options, tokenizer, runtime.get(), progress));
  InputStatistics statistics;
  NIBBLE_DO(feed(corpus, *runtime, context, statistics, progress));
  Calibration out;
  NIBBLE_TRY_IN(path, out.imatrix, imatrix_of(statistics, model.graph()));
  out.imatrix.chunk_count = corpus.windows.size();
  out.imatrix.chunk_size = context;
  out.imatrix.datasets = {corpus.name};
  out.dataset = corpus.name;
  out.dataset_sha256 = corpus.sha256;
  out.windows = corpus.windows.size();
  out.tokens = corpus.tokens();
  return out;
}

Result<CalibrationReport> calibrate(const CalibrateOptions& options, Progress& progress) {
  const auto start = std::chrono::steady_clock::now();
  struct stat existing;
  if (!options.overwrite && ::stat(options.output.c_str(), &existing) == 0)
    return fail(ErrorCode::invalid, "{}: exists already; give another name or --force",
                options.output);
  NIBBLE_DO(check_place(options.output, options.model));
  NIBBLE_TRY(const Model model, Model::open(options.model));
  NIBBLE_TRY(const Calibration result, run_calibration(model, options, progress));
  NIBBLE_DO(write_imatrix(options.output, result.imatrix));
  return CalibrationReport{
      .windows = result.windows,
      .tokens = result.tokens,
      .matrices = result.imatrix.entries.size(),
      .dataset = result.dataset,
      .dataset_sha256 = result.dataset_sha256,
      .seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()};
}

}  // namespace nibble
