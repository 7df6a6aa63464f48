#include "nibble/compare.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "arch/arch.h"
#include "base/threads.h"
#include "base/utf8.h"
#include "compare/place.h"
#include "compare/weights.h"
#include "container/imatrix.h"
#include "eval/answer.h"
#include "nibble/calibrate.h"
#include "nibble/inspect.h"

namespace nibble {
namespace {

/// Models run beside the original at a time: no more bytes than it has, or than this.
constexpr std::uint64_t kTogether = std::uint64_t(4) << 30;

/// Says in front of everything which model it is about.
class ModelProgress final : public Progress {
 public:
  ModelProgress(Progress& progress, const std::string& model)
      : progress_(progress), prefix_(model + ": ") {}
  void begin(std::string_view phase, std::uint64_t total, std::string_view unit) override {
    progress_.begin(prefix_ + std::string(phase), total, unit);
  }
  void update(std::uint64_t done) override { progress_.update(done); }
  void end() override { progress_.end(); }
  void note(std::string_view message) override { progress_.note(prefix_ + std::string(message)); }
  bool cancelled() const override { return progress_.cancelled(); }

 private:
  Progress& progress_;
  std::string prefix_;
};

Status check(const CompareOptions& options) {
  if (options.targets.empty() && options.files.empty())
    return fail(ErrorCode::invalid, "nothing to compare: give --to TARGET or finished models");
  if (options.answer_tokens < 1) return fail(ErrorCode::invalid, "answers of no tokens");
  for (const std::string& prompt : options.prompts) {
    if (prompt.empty()) return fail(ErrorCode::invalid, "a prompt is empty");
    if (!is_utf8(prompt)) return fail(ErrorCode::invalid, "prompt {}: not UTF-8", quote(prompt));
  }
  return {};
}

class Comparer {
 public:
  Comparer(const CompareOptions& options, Progress& progress)
      : options_(options), progress_(progress), pool_(options.threads) {
    report_.options = options;
    report_.models.reserve(options.targets.size() + options.files.size());
  }

  Result<CompareReport> run() {
    NIBBLE_TRY(const auto targets, parse_targets(options_.targets));
    std::optional<Place> place;
    if (!targets.empty()) {
      NIBBLE_TRY(place, Place::make(options_.keep, options_.scratch));
    }
    NIBBLE_DO(measure_original());
    NIBBLE_DO(calibrate_once(targets));
    for (const CompareTarget& target : targets) NIBBLE_DO(note(make(target, *place)));
    for (const std::string& name : names_of(options_.files)) {
      const std::size_t index = report_.models.size() - targets.size();
      report_.models.push_back({.name = name, .path = options_.files[index], .error = {}});
      NIBBLE_DO(note(look_at(report_.models.back())));
    }
    if (!options_.evaluate.text.empty()) NIBBLE_DO(measure_quality());
    NIBBLE_DO(each([&](ComparedModel& model) { return measure_answers(model); }));
    NIBBLE_DO(each([&](ComparedModel& model) { return measure_weights(model); }));
    // One right after the other: what else the machine does changes in the course of long runs.
    NIBBLE_DO(measure_speed(report_.original));
    NIBBLE_DO(each([&](ComparedModel& model) { return measure_speed(model); }));
    return std::move(report_);
  }

 private:
  /// All that nothing has gone wrong with yet.
  Status each(const std::function<Status(ComparedModel&)>& measure) {
    for (ComparedModel& model : report_.models) {
      current_ = &model;
      if (model.error.empty()) NIBBLE_DO(note(measure(model)));
    }
    return {};
  }

  /// Whoever asked to stop means all of it; anything else is the current model's own trouble.
  Status note(const Status& status) {
    if (status || status.error().code() == ErrorCode::cancelled) return status;
    current_->error = status.error().message();
    progress_.note(current_->name + ": " + current_->error);
    return {};
  }

  Status look_at(ComparedModel& model) {
    current_ = &model;
    NIBBLE_TRY(const Inspection found, inspect(model.path));
    model.bytes = found.bytes;
    model.bits_per_weight = found.bits_per_weight;
    if (&model != &report_.original) return {};
    report_.architecture = found.architecture;
    report_.parameters = found.parameters;
    return {};
  }

  /// Also finds what is wrong with texts, tasks and prompts before the long work begins.
  Status measure_original() {
    ComparedModel& original = report_.original;
    original.name = names_of({options_.source}).front();
    original.path = options_.source;
    NIBBLE_DO(look_at(original));
    NIBBLE_TRY(original_, Model::open(options_.source));
    if (!options_.evaluate.text.empty()) {
      EvaluateOptions first = evaluate_options();
      first.models = {options_.source};
      first.chunks = 1;
      ModelProgress progress(progress_, original.name);
      NIBBLE_TRY([[maybe_unused]] const auto one, evaluate(first, progress));
    }
    return measure_answers(original);
  }

  /// Importance rounding needs the same statistics for every level: the text is run once.
  Status calibrate_once(const std::vector<CompareTarget>& targets) {
    const QuantizeOptions& how = options_.quantize;
    const auto levels = std::count_if(targets.begin(), targets.end(),
                                      [](const CompareTarget& target) { return target.gguf; });
    if (levels < 2 || !(how.fast || how.recipe == "importance")) return {};
    if (!how.calibration.empty() && is_imatrix(how.calibration)) return {};
    NIBBLE_TRY(statistics_, Place::make("", options_.scratch));
    const std::string text = how.calibration.empty() ? "self-written" : how.calibration;
    CalibrateOptions calibration;
    calibration.model = options_.source;
    calibration.output = *statistics_ / (names_of({text}).front() + ".imatrix.gguf");
    calibration.text = how.calibration;
    calibration.chunks = how.calibration_chunks;
    calibration.threads = options_.threads;
    NIBBLE_TRY([[maybe_unused]] const auto report, calibrate(calibration, progress_));
    imatrix_ = calibration.output;
    return {};
  }

  Status make(const CompareTarget& target, const Place& place) {
    ComparedModel& model = report_.models.emplace_back();
    model.name = target.name;
    model.path = place / target.entry;
    current_ = &model;
    QuantizeOptions quantization = options_.quantize;
    quantization.source = options_.source;
    quantization.output = model.path;
    quantization.target = target.name;
    quantization.threads = options_.threads;
    if (target.gguf && !imatrix_.empty()) quantization.calibration = imatrix_;
    ModelProgress progress(progress_, model.name);
    NIBBLE_TRY(const QuantizeReport made, quantize(quantization, progress));
    model.recipe = made.recipe;
    model.seconds = made.seconds;
    return look_at(model);
  }

  EvaluateOptions evaluate_options() const {
    EvaluateOptions options = options_.evaluate;
    options.threads = options_.threads;
    return options;
  }

  /// In lockstep, so that the original runs once for as many as memory should hold.
  Status measure_quality() {
    const std::uint64_t most = std::max(report_.original.bytes, kTogether);
    std::vector<ComparedModel*> group;
    std::uint64_t bytes = 0;
    for (ComparedModel& model : report_.models) {
      if (!model.error.empty()) continue;
      if (!group.empty() && bytes + model.bytes > most) {
        NIBBLE_DO(measure_together(group));
        group.clear(), bytes = 0;
      }
      group.push_back(&model), bytes += model.bytes;
    }
    return group.empty() ? Status{} : measure_together(group);
  }

  /// Where the whole fails, each is tried for itself, which shows whose fault it is.
  Status measure_together(const std::vector<ComparedModel*>& group) {
    EvaluateOptions options = evaluate_options();
    options.models.clear();
    for (const ComparedModel* model : group) options.models.push_back(model->path);
    options.reference = options_.source;
    const auto results = evaluate(options, progress_);
    if (!results && group.size() > 1 && results.error().code() != ErrorCode::cancelled) {
      for (ComparedModel* model : group) NIBBLE_DO(measure_together({model}));
      return {};
    }
    current_ = group.front();
    if (!results) return note(tl::unexpected<Error>(results.error()));
    for (std::size_t i = 0; i < group.size(); ++i) take(*group[i], (*results)[i]);
    return {};
  }

  void take(ComparedModel& model, const Evaluation& result) {
    model.perplexity = result.perplexity;
    model.divergence = result.divergence;
    report_.original.perplexity = Measured{result.divergence->reference_perplexity, 0};
    report_.text_sha256 = result.text_sha256;
    report_.windows = result.windows;
    report_.tokens = result.tokens;
  }

  Status measure_speed(ComparedModel& model) {
    ModelProgress progress(progress_, model.name);
    BenchmarkOptions speed = options_.speed;
    speed.model = model.path;
    speed.threads = options_.threads;
    NIBBLE_TRY(model.speed, benchmark(speed, progress));
    return {};
  }

  Status measure_answers(ComparedModel& model) {
    ModelProgress progress(progress_, model.name);
    if (!options_.task.empty()) {
      const TaskOptions task = {
          .model = model.path, .file = options_.task, .threads = options_.threads};
      NIBBLE_TRY(model.task, evaluate_task(task, progress));
    }
    return options_.prompts.empty() ? Status{} : answer(model, progress);
  }

  /// With activations of 8 bits, as `nibble run` has them.
  Status answer(ComparedModel& model, Progress& progress) {
    NIBBLE_TRY(auto answerer, Answerer::load(model.path, {.threads = options_.threads}, progress));
    progress.begin("answering", options_.prompts.size(), "prompts");
    for (const std::string& prompt : options_.prompts) {
      if (progress.cancelled()) return fail(ErrorCode::cancelled, "stopped while answering");
      NIBBLE_TRY_IN("prompt " + quote(prompt), std::string text,
                    answerer.answer(prompt, options_.answer_tokens));
      model.answers.push_back(std::move(text));
      progress.update(model.answers.size());
    }
    progress.end();
    return {};
  }

  Status measure_weights(ComparedModel& model) {
    ModelProgress progress(progress_, model.name);
    NIBBLE_TRY(const Model opened, Model::open(model.path));
    NIBBLE_TRY(WeightComparison found, compare_weights(*original_, opened, pool_, progress));
    model.matrices = std::move(found.matrices);
    model.rescaled = found.rescaled;
    return {};
  }

  const CompareOptions& options_;
  Progress& progress_;
  ThreadPool pool_;
  std::optional<Model> original_;
  std::optional<Place> statistics_;
  std::string imatrix_;  // in it, of the calibration text; empty: none
  CompareReport report_;
  ComparedModel* current_ = nullptr;  // that errors are about
};

}  // namespace

Result<CompareReport> compare(const CompareOptions& options, Progress& progress) {
  NIBBLE_DO(check(options));
  auto report = Comparer(options, progress).run();
  // What a step says of going on later holds for that step alone.
  if (!report && report.error().code() == ErrorCode::cancelled)
    return fail(ErrorCode::cancelled, "stopped before everything was measured");
  return report;
}

}  // namespace nibble
