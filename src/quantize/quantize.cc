#include "nibble/quantize.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <numeric>
#include <optional>

#include "base/threads.h"
#include "container/writer.h"
#include "nibble/version.h"
#include "plan/plan.h"
#include "plan/recipe.h"
#include "quantize/checkpoint.h"
#include "quantize/feedback.h"
#include "quantize/file_hash.h"
#include "quantize/importance.h"
#include "quantize/output.h"
#include "quantize/verify.h"
#include "round/rounder.h"

namespace nibble {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kCopyPiece = 16u << 20;  // bytes copied at a time
constexpr std::uint64_t kWindow = 2u << 20;      // weights given back at a time
constexpr std::uint64_t kBufferLimit = 100u
                                       << 20;  // bytes waiting to be written, beyond one tensor
constexpr char kSourceHash[] = "nibble.source.sha256";
constexpr std::size_t kHexDigits = 64;

/// Everything that is decided before the first weight is read.
struct Job {
  std::unique_ptr<Checkpoint> checkpoint;
  Recipe recipe;
  const Rounder* rounder = nullptr;
  std::optional<Importance> importance;
  std::unique_ptr<FeedbackSource> feedback;  // where the rounding makes use of second moments
  Plan plan;
  Metadata metadata;  // of the output, with a placeholder for the hash of the source
  std::uint64_t bytes = 0;
};

Result<const Rounder*> rounder_of(const Recipe& recipe) {
  if (!recipe.transforms.empty())
    return fail(ErrorCode::unsupported, "recipe '{}': no transform named '{}' in this version",
                to_string(recipe), recipe.transforms.front());
  const Rounder* rounder = find_rounder(recipe.rounding);
  if (rounder) return rounder;
  std::string known;
  for (const Rounder* each : round_registry()) known += fmt::format(" {}", each->id());
  return fail(ErrorCode::invalid, "recipe '{}': no rounding named '{}'; there are:{}",
              to_string(recipe), recipe.rounding, known);
}

/// The recipe with its target filled in from --to.
Result<Recipe> recipe_of(const QuantizeOptions& options) {
  const char* usual = options.calibration.empty() ? "nearest" : "importance";
  NIBBLE_TRY(Recipe recipe, parse_recipe(options.recipe.empty() ? usual : options.recipe));
  if (!recipe.target.empty() && !options.target.empty() && recipe.target != options.target)
    return fail(ErrorCode::invalid, "recipe '{}' ends in {}, but the level asked for is {}",
                options.recipe, recipe.target, options.target);
  if (recipe.target.empty()) recipe.target = options.target;
  if (recipe.target.empty())
    return fail(ErrorCode::invalid,
                "no level: say --to LEVEL, for example --to Q4_K_M, or end the recipe in one");
  return recipe;
}

/// Keys as llama.cpp's quantizer writes them, and the provenance of the file.
void add_provenance(Job& job) {
  Metadata& metadata = job.metadata;
  metadata.set("general.quantization_version", std::uint32_t(2));
  metadata.set("general.file_type", job.plan.file_type);
  metadata.set("nibble.version", std::string(version()));
  metadata.set("nibble.recipe", to_string(job.recipe));
  const std::size_t files = job.checkpoint->source().files().size();
  const std::string blank(kHexDigits, '0');
  if (files == 1)
    metadata.set(kSourceHash, blank);
  else
    metadata.set(kSourceHash, std::vector<std::string>(files, blank));
  if (job.feedback) {
    metadata.set("nibble.calibration.text",
                 std::filesystem::path(job.feedback->name()).filename().string());
    metadata.set("nibble.calibration.tokens", job.feedback->tokens());
    metadata.set("nibble.calibration.sha256", job.feedback->sha256());
  }
  if (!job.importance) return;
  const Imatrix& imatrix = job.importance->imatrix;
  metadata.set("quantize.imatrix.file", job.importance->name);
  if (!imatrix.datasets.empty())
    metadata.set("quantize.imatrix.dataset", fmt::format("{}", fmt::join(imatrix.datasets, ",")));
  metadata.set("quantize.imatrix.entries_count", std::uint32_t(imatrix.entries.size()));
  metadata.set("quantize.imatrix.chunks_count", std::uint32_t(imatrix.chunk_count));
  metadata.set("nibble.calibration.sha256", job.importance->sha256);
}

std::vector<TensorInfo> planned_tensors(const Plan& plan) {
  std::vector<TensorInfo> tensors;
  for (const PlannedTensor& planned : plan.tensors) tensors.push_back(planned.tensor);
  return tensors;
}

/// `plan_only`: importance is not looked for, since only whether there is any matters to a plan.
Result<Job> prepare(const QuantizeOptions& options, bool plan_only, Progress& progress) {
  Job job;
  NIBBLE_TRY(job.recipe, recipe_of(options));
  NIBBLE_TRY(job.rounder, rounder_of(job.recipe));
  NIBBLE_TRY(const Target target, parse_target(job.recipe.target));
  std::vector<Override> overrides;
  for (const std::string& text : options.overrides) {
    NIBBLE_TRY(Override each, parse_override(text));
    overrides.push_back(std::move(each));
  }
  NIBBLE_TRY(job.checkpoint, Checkpoint::open(options.source));
  const bool wanted = wants_importance(options, job.rounder->needs_stats());
  if (wanted && !plan_only) {
    if (job.rounder->needs_moments()) {
      NIBBLE_TRY(job.feedback, FeedbackSource::open(options, progress));
    } else {
      NIBBLE_TRY(job.importance, find_importance(options, progress));
    }
  }
  NIBBLE_TRY(job.plan, make_plan(job.checkpoint->plan_input(), target, overrides, wanted));
  NIBBLE_TRY(job.metadata, job.checkpoint->metadata());
  add_provenance(job);
  NIBBLE_TRY_IN(options.source, job.bytes,
                gguf_bytes(job.metadata, planned_tensors(job.plan), {options.split_bytes}));
  return job;
}

QuantizeReport report_of(const Job& job) {
  const Plan& plan = job.plan;
  QuantizeReport report{.target = plan.target.name(),
                        .recipe = to_string(job.recipe),
                        .architecture = job.checkpoint->plan_input().arch,
                        .bytes = job.bytes,
                        .tensor_bytes = plan.tensor_bytes,
                        .parameters = plan.weights,
                        .bits_per_weight = plan.bits_per_weight()};
  for (const TensorInfo& tensor : job.checkpoint->tensors()) report.source_bytes += tensor.bytes;
  for (const PlannedTensor& planned : plan.tensors)
    report.tensors.push_back({.name = planned.tensor.name,
                              .shape = planned.tensor.shape,
                              .source_format = std::string(planned.stored->id()),
                              .format = std::string(planned.tensor.format->id()),
                              .wanted = std::string(planned.wanted->id()),
                              .reason = planned.reason,
                              .bytes = planned.tensor.bytes});
  return report;
}

/// Makes the bytes of one tensor after the other and hands them to the writer.
class Maker {
 public:
  Maker(const Job& job, ThreadPool& pool, BackgroundWriter& out, const Progress& progress)
      : job_(job), checkpoint_(*job.checkpoint), pool_(pool), out_(out), progress_(progress) {}

  Status make(std::size_t index, QuantizedTensor& report) {
    const PlannedTensor& planned = job_.plan.tensors[index];
    const bool copied = planned.stored == planned.tensor.format && checkpoint_.keeps_values(index);
    NIBBLE_DO_IN("tensor " + planned.tensor.name, copied ? copy(index) : round(index, report));
    checkpoint_.release(index, 0, planned.tensor.rows());
    return {};
  }

 private:
  /// Rows whose bytes, `row` each, make a good piece of work for one thread.
  static std::int64_t panel(std::uint64_t row) {
    return std::int64_t(std::max<std::uint64_t>(1, (1u << 20) / row));
  }

  Status copy(std::size_t index) {
    const TensorInfo& tensor = job_.plan.tensors[index].tensor;
    const std::uint64_t row = tensor.bytes / tensor.rows();
    const std::uint64_t step = std::max<std::uint64_t>(1, kCopyPiece / row);
    for (std::uint64_t first = 0; first < tensor.rows(); first += step) {
      const std::uint64_t rows = std::min(step, tensor.rows() - first);
      auto buffer = out_.acquire(rows * row);
      pool_.run(std::int64_t(rows), panel(row), [&](std::int64_t begin, std::int64_t end) {
        const std::uint64_t b = first + std::uint64_t(begin), e = first + std::uint64_t(end);
        checkpoint_.load_bytes(index, b, e, buffer.data.get() + std::uint64_t(begin) * row);
        checkpoint_.release(index, b, e);
      });
      NIBBLE_DO(out_.push(index, std::move(buffer)));
    }
    return {};
  }

  /// Experts share a tensor but not their inputs: each has its own importance, and so its own task.
  Result<std::span<const float>> importance(const TensorInfo& tensor, std::uint64_t& matrices) {
    matrices = 1;
    if (!job_.importance) return std::span<const float>{};
    const ImatrixEntry* entry = job_.importance->imatrix.find(tensor.name);
    if (!entry) return std::span<const float>{};
    const std::uint64_t experts = tensor.shape.size() == 3 ? tensor.shape[0] : 1;
    if (entry->mean_square.size() == tensor.columns() * experts) {
      matrices = experts;
    } else if (entry->mean_square.size() != tensor.columns()) {
      return fail(ErrorCode::invalid,
                  "the importance matrix has {} values for its {} columns: it is of another model",
                  entry->mean_square.size(), tensor.columns());
    }
    return std::span<const float>(entry->mean_square);
  }

  Status round(std::size_t index, QuantizedTensor& report) {
    const TensorInfo& tensor = job_.plan.tensors[index].tensor;
    std::uint64_t matrices = 1;
    NIBBLE_TRY(const auto mean_square, importance(tensor, matrices));
    const std::uint64_t rows = tensor.rows() / matrices;
    const std::uint64_t window = std::max<std::uint64_t>(1, kWindow / tensor.columns());
    auto buffer = out_.acquire(tensor.bytes);
    for (std::uint64_t m = 0; m < matrices; ++m) {
      RoundTask task;
      task.rows = std::int64_t(rows);
      task.columns = std::int64_t(tensor.columns());
      task.format = tensor.format;
      if (!mean_square.empty())
        task.stats.mean_square =
            mean_square.subspan(matrices > 1 ? m * tensor.columns() : 0, tensor.columns());
      task.load = [&, m](std::int64_t begin, std::int64_t end, float* out) {
        const std::uint64_t b = m * rows + std::uint64_t(begin), e = m * rows + std::uint64_t(end);
        checkpoint_.load_rows(index, b, e, out);
        // Giving pages back interrupts every core, so a whole window at a time. Rows that another
        // thread still reads come back by themselves, and go when the tensor is done.
        if (const std::uint64_t w = e / window; w != b / window)
          checkpoint_.release(index, b / window * window, w * window);
      };
      task.out = buffer.bytes().subspan(m * (tensor.bytes / matrices), tensor.bytes / matrices);
      NIBBLE_TRY(const RoundReport errors, round(tensor, task, report));
      report.squared_error += errors.squared_error;
      report.weighted_error += errors.weighted_error;
      report.squared_weight += errors.squared_weight;
    }
    if (fed(tensor)) NIBBLE_DO(job_.feedback->put(tensor.name, *tensor.format, buffer.bytes()));
    return out_.push(index, std::move(buffer));
  }

  bool fed(const TensorInfo& tensor) const {
    return job_.feedback && tensor.shape.size() == 2 && job_.feedback->block_of(tensor.name) >= 0;
  }

  Result<RoundReport> round(const TensorInfo& tensor, RoundTask& task, QuantizedTensor& report) {
    if (fed(tensor)) {
      FeedbackChoice choice;
      NIBBLE_DO(job_.feedback->enter(job_.feedback->block_of(tensor.name), progress_));
      NIBBLE_TRY(const RoundReport errors,
                 job_.feedback->round(tensor.name, task, *job_.rounder, choice, pool_));
      report.feedback = choice;
      return errors;
    }
    const bool unknown = job_.rounder->needs_stats() && task.stats.mean_square.empty();
    return (unknown ? find_rounder("nearest") : job_.rounder)->round(task, pool_);
  }

  const Job& job_;
  const Checkpoint& checkpoint_;
  ThreadPool& pool_;
  BackgroundWriter& out_;
  const Progress& progress_;
};

/// Feedback takes blocks in turn, whatever the order of the file.
std::vector<std::size_t> order_of_work(const Job& job) {
  std::vector<std::size_t> order(job.plan.tensors.size());
  std::iota(order.begin(), order.end(), 0);
  if (!job.feedback) return order;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const auto block = [&](std::size_t i) {
      return job.feedback->block_of(job.plan.tensors[i].tensor.name);
    };
    return block(a) < block(b);
  });
  return order;
}

void note_choices(const Job& job, Progress& progress) {
  std::size_t lossy = 0, unknown = 0;
  std::string example;
  for (const PlannedTensor& planned : job.plan.tensors) {
    const bool quantized = planned.tensor.format->block() > 1;
    lossy += planned.stored->block() > 1 && planned.stored != planned.tensor.format;
    if (job.importance && quantized && !job.importance->imatrix.find(planned.tensor.name)) {
      if (unknown++ == 0) example = planned.tensor.name;
    }
  }
  if (lossy > 0)
    progress.note(
        fmt::format("{} tensors are quantized in the source already: their errors add up; "
                    "a 16-bit source gives a better file",
                    lossy));
  if (unknown > 0)
    progress.note(
        fmt::format("no importance for {} tensors ({}{}): every column counts the same there",
                    unknown, example, unknown > 1 ? ", ..." : ""));
}

Status check_output(const QuantizeOptions& options) {
  if (options.output.empty()) return fail(ErrorCode::invalid, "no output: say -o FILE.gguf");
  std::error_code error;
  if (std::filesystem::is_directory(options.output, error))
    return fail(ErrorCode::invalid, "{}: is a directory; name a file in it", options.output);
  if (options.force) return {};
  auto status = check_not_there(options.output);
  if (!status)
    return fail(status.error().code(), "{}; --force replaces it", status.error().message());
  return {};
}

Status make_all(const Job& job, ThreadPool& pool, Writer& writer, QuantizeReport& report,
                Progress& progress) {
  std::uint64_t largest = 0, done = 0;
  for (const PlannedTensor& planned : job.plan.tensors)
    largest = std::max(largest, planned.tensor.bytes);
  BackgroundWriter out(writer, std::max(largest, kBufferLimit));
  Maker maker(job, pool, out, progress);
  progress.begin("quantizing", report.source_bytes, "bytes");
  for (const std::size_t i : order_of_work(job)) {
    if (progress.cancelled()) return fail(ErrorCode::cancelled, "stopped; nothing was written");
    NIBBLE_DO_IN(job.checkpoint->source().path(), maker.make(i, report.tensors[i]));
    progress.update(done += job.checkpoint->tensors()[i].bytes);
  }
  NIBBLE_DO(out.drain());
  progress.end();
  return {};
}

std::uint64_t peak_memory() {
  struct rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return std::uint64_t(usage.ru_maxrss) * 1024;
}

}  // namespace

Result<QuantizeReport> plan_quantize(const QuantizeOptions& options) {
  NIBBLE_TRY(const Job job, prepare(options, true, no_progress()));
  return report_of(job);
}

Result<QuantizeReport> quantize(const QuantizeOptions& options, Progress& progress) {
  const auto start = Clock::now();
  NIBBLE_DO(check_output(options));
  NIBBLE_TRY(Job job, prepare(options, false, progress));
  note_choices(job, progress);
  QuantizeReport report = report_of(job);
  const std::vector<TensorInfo> tensors = planned_tensors(job.plan);
  NIBBLE_TRY(const auto writer,
             create_gguf(options.output, job.metadata, tensors, {options.split_bytes}));
  FileHasher hasher(job.checkpoint->source().files());
  ThreadPool pool(options.threads);
  NIBBLE_DO(make_all(job, pool, *writer, report, progress));
  NIBBLE_TRY(auto hashes, hasher.finish());
  if (hashes.size() == 1)
    job.metadata.set(kSourceHash, hashes.front());
  else
    job.metadata.set(kSourceHash, std::move(hashes));
  NIBBLE_DO(writer->replace(job.metadata));
  NIBBLE_DO(verify_gguf(writer->parts(), tensors, pool));
  if (progress.cancelled()) return fail(ErrorCode::cancelled, "stopped; nothing was written");
  NIBBLE_TRY(report.files, writer->finish());
  report.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  report.peak_memory_bytes = peak_memory();
  return report;
}

}  // namespace nibble
