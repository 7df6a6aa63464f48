#include "quantize/job.h"

#include <fmt/ranges.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/cpu.h"
#include "base/hash.h"
#include "container/writer.h"
#include "nibble/version.h"
#include "quantize/budget.h"
#include "quantize/destination.h"
#include "quantize/feedback.h"
#include "quantize/rewrite.h"
#include "quantize/usual.h"
#include "quantize/windows.h"

namespace nibble {
namespace {

constexpr std::size_t kJudgingWindows = 2, kJudgingTokens = 256;  // the model runs for each matrix
constexpr std::size_t kJudgingLead = 32;  // tokens with too little before them
constexpr std::uint64_t kProgramBytes = 300u << 20;

Result<const Rounder*> rounder_of(const Recipe& recipe) {
  const Rounder* rounder = find_rounder(recipe.rounding);
  if (rounder) return rounder;
  std::string known;
  for (const Rounder* each : round_registry()) known += fmt::format(" {}", each->id());
  return fail(ErrorCode::invalid, "recipe '{}': no rounding named '{}'; there are:{}",
              to_string(recipe), recipe.rounding, known);
}

Result<std::vector<const Transform*>> transforms_of(const Recipe& recipe) {
  std::vector<const Transform*> out;
  for (const std::string& id : recipe.transforms) {
    out.push_back(find_transform(id));
    if (out.back()) continue;
    std::string known;
    for (const Transform* each : transform_registry()) known += fmt::format(" {}", each->id());
    return fail(ErrorCode::invalid, "recipe '{}': no transform named '{}'; there are:{}",
                to_string(recipe), id, known);
  }
  return out;
}

/// Does a target leave anything to round? Not if it is 16 bits or what the matrices are.
bool rounds(const Target& target) {
  const Format* format = target.level ? find_format(target.level->format) : target.format;
  return format && format->block() > 1;
}

/// What a target itself says of how it is rounded; empty: nothing.
Result<std::string> expected_rounding(const std::string& text) {
  if (text.empty()) return "";
  NIBBLE_TRY(const Target target, parse_target(text));
  if (!rounds(target)) return "nearest";
  return std::string(target.packer ? target.packer->usual_rounding() : "");
}

/// The recipe with its target filled in from --to.
Result<Recipe> recipe_of(const QuantizeOptions& options, bool plan_only, Progress& progress) {
  if (options.fast && !options.recipe.empty())
    return fail(ErrorCode::invalid, "--fast and --recipe {}: choose one", options.recipe);
  NIBBLE_TRY(std::string text, expected_rounding(options.target));
  if (!options.recipe.empty()) text = options.recipe;
  if (text.empty()) {
    UsualRecipe usual = usual_recipe(options);
    if (!plan_only) progress.note(usual.reason);
    text = std::move(usual.recipe);
  }
  NIBBLE_TRY(Recipe recipe, parse_recipe(text));
  if (!recipe.target.empty() && !options.target.empty() && recipe.target != options.target)
    return fail(ErrorCode::invalid, "recipe '{}' ends in {}, but the level asked for is {}",
                options.recipe, recipe.target, options.target);
  if (recipe.target.empty()) recipe.target = options.target;
  if (const Budget& b = options.budget; b.bytes > 0 || b.bits_per_weight > 0 || b.kld > 0)
    recipe.target = budget_name(b);
  if (recipe.target.empty())
    return fail(ErrorCode::invalid,
                "no level: say --to LEVEL, for example --to Q4_K_M, or end the recipe in one");
  return recipe;
}

std::string digest(const std::string& sha256) { return sha256.substr(0, kDigestDigits); }

/// Keys as llama.cpp's quantizer writes them, and the provenance of the file.
void add_provenance(Job& job) {
  Metadata& metadata = job.metadata;
  metadata.set("general.quantization_version", std::uint32_t(2));
  metadata.set("general.file_type", job.plan.file_type);
  const std::size_t files = job.checkpoint->source().files().size();
  set_source(metadata, std::vector<std::string>(files, std::string(kDigestDigits, '0')));
  std::string made = fmt::format("{} {}", to_string(job.recipe), version());
  if (job.windows)
    made += fmt::format(" {} {} {}", digest(job.windows->sha256), job.windows->tokens(),
                        std::filesystem::path(job.windows->name).filename().string());
  else if (job.importance)
    made += fmt::format(" {}", digest(job.importance->sha256));
  metadata.set(kRecipeKey, made);
  if (!job.importance) return;
  const Imatrix& imatrix = job.importance->imatrix;
  metadata.set("quantize.imatrix.file", job.importance->name);
  if (!imatrix.datasets.empty())
    metadata.set("quantize.imatrix.dataset", fmt::format("{}", fmt::join(imatrix.datasets, ",")));
  metadata.set("quantize.imatrix.entries_count", std::uint32_t(imatrix.entries.size()));
  metadata.set("quantize.imatrix.chunks_count", std::uint32_t(imatrix.chunk_count));
}

Status open_model(Job& job, const QuantizeOptions& options) {
  if (job.model) return {};
  NIBBLE_TRY(Model model, Model::open(options.source));
  job.model = std::make_unique<Model>(std::move(model));
  return {};
}

/// Running the whole model, as it must be to write text or to be judged, takes its size in memory.
Status check_whole_model(const Job& job, const QuantizeOptions& options, const char* what) {
  std::uint64_t bytes = kProgramBytes;
  for (const TensorInfo& tensor : job.checkpoint->tensors()) bytes += tensor.bytes;
  if (options.memory_bytes == 0 || bytes <= options.memory_bytes) return {};
  return fail(ErrorCode::invalid,
              "--memory {}: {} needs the whole model, {} bytes; allow more, or {}",
              options.memory_bytes, what, bytes,
              options.calibration.empty() ? "give --calib a text" : "choose a level with --to");
}

/// Decides where activations wait.
Status plan_memory(Job& job, const QuantizeOptions& options) {
  const std::uint64_t needed =
      FeedbackSource::memory_needed(*job.model, job.rounder->needs_reference()) +
      turned_bytes(*job.model, job.transforms);
  const std::uint64_t waiting =
      FeedbackSource::activation_bytes(*job.model, *job.windows, job.rounder->needs_reference());
  const std::uint64_t allowed =
      options.memory_bytes > 0 ? options.memory_bytes : physical_memory() / 2;
  if (options.memory_bytes > 0 && needed > allowed)
    return fail(ErrorCode::invalid,
                "--memory {}: error feedback needs {} bytes for the largest block of this model; "
                "allow more, or take --recipe importance with an importance matrix",
                allowed, needed);
  if (needed + waiting <= allowed) return {};
  const auto folder = std::filesystem::path(options.output).parent_path();
  job.spill_folder = folder.empty() ? "." : folder.string();
  return {};
}

/// Error: names the first weight that is not finite.
Status check_weights(const Checkpoint& checkpoint) {
  std::vector<float> row;
  for (std::size_t i = 0; i < checkpoint.tensors().size(); ++i) {
    const TensorInfo& tensor = checkpoint.tensors()[i];
    row.resize(tensor.columns());
    for (std::uint64_t r = 0; r < tensor.rows(); ++r) {
      checkpoint.load_rows(i, r, r + 1, row.data());
      const auto bad =
          std::find_if(row.begin(), row.end(), [](float x) { return !std::isfinite(x); });
      if (bad != row.end())
        return fail(ErrorCode::corrupt,
                    "{}: tensor {}: weight at row {}, column {} is {}: the checkpoint is damaged, "
                    "fetch it again",
                    checkpoint.source().path(), tensor.name, r, bad - row.begin(), *bad);
    }
    checkpoint.release(i, 0, tensor.rows());
  }
  return {};
}

Status look_for_importance(Job& job, const QuantizeOptions& options, Progress& progress) {
  const bool matrix = !options.calibration.empty() && is_imatrix(options.calibration);
  if (!matrix) NIBBLE_DO(check_whole_model(job, options, "calibrating"));
  NIBBLE_TRY(job.importance, find_importance(options, job.model.get(), progress));
  return {};
}

Status calibrate(Job& job, const QuantizeOptions& options, Progress& progress) {
  if (!job.rounder->needs_moments() && job.transforms.empty())
    return look_for_importance(job, options, progress);
  if (options.calibration.empty()) NIBBLE_DO(check_whole_model(job, options, "writing text"));
  NIBBLE_DO(open_model(job, options));
  const std::uint64_t most = options.calibration.empty() ? kOwnWindows : kFeedbackWindows;
  NIBBLE_TRY(job.windows, calibration_windows(*job.model, options, most, progress));
  return plan_memory(job, options);
}

/// Appends the overrides that make the plan fit the budget.
Status fit(Job& job, const QuantizeOptions& options, std::vector<Override>& overrides,
           Progress& progress) {
  NIBBLE_DO(check_whole_model(job, options, "a budget"));
  NIBBLE_DO(open_model(job, options));
  NIBBLE_TRY(const Corpus text,
             judging_text(*job.model, options, job.windows, kJudgingWindows, progress));
  auto windows = selection_windows(text, kJudgingWindows);
  for (auto& window : windows) window.resize(std::min(window.size(), kJudgingTokens));
  NIBBLE_TRY(job.judge,
             Judge::open(*job.model, std::move(windows), kJudgingLead, options.threads, progress));
  if (job.journal && !job.journal->budget().is_null()) {
    job.judge->unload();
    NIBBLE_TRY(job.budget, budget_from_json(job.journal->budget(), options.budget, overrides));
    return {};
  }
  std::unique_ptr<FeedbackSource> feedback;
  if (job.rounder->needs_moments()) {
    Corpus part = *job.windows;
    part.windows.resize(std::min(part.windows.size(), kChoiceWindows));
    NIBBLE_TRY(feedback, FeedbackSource::open(*job.model, part, options.threads, job.spill_folder));
  }
  std::uint64_t fixed = job.bytes;
  for (const PlannedTensor& planned : job.plan.tensors)
    if (planned.quantizable && planned.reason.empty()) fixed -= planned.tensor.bytes;
  ThreadPool pool(options.threads);
  Sensitivity sensitivity(
      *job.checkpoint, *job.rounder,
      [&](const TensorInfo& tensor) { return importance_of(job, tensor); }, feedback.get(),
      *job.judge, job.journal ? &*job.journal : nullptr, pool);
  const std::size_t own = overrides.size();
  NIBBLE_TRY(job.budget, fit_budget(options, job.plan, fixed, sensitivity, overrides, progress));
  job.judge->unload();
  if (!job.journal) return {};
  return job.journal->set_budget(
      budget_to_json(*job.budget, job.plan, std::span(overrides).subspan(own)));
}

/// A hash of everything that the bytes of the output depend on.
std::string identity(const Job& job, const QuantizeOptions& options) {
  Json all = {{"version", version()},
              {"isa", active_isa()},
              {"recipe", to_string(job.recipe)},
              {"overrides", options.overrides},
              {"formats", options.formats},
              {"split", options.split_bytes},
              {"chunks", options.calibration_chunks},
              {"files", Json::array()}};
  for (const std::string& path : job.checkpoint->source().files()) {
    struct stat file = {};
    ::stat(path.c_str(), &file);
    all["files"].push_back({std::filesystem::path(path).filename().string(), file.st_size,
                            file.st_mtim.tv_sec, file.st_mtim.tv_nsec});
  }
  if (job.windows) all["text"] = {job.windows->sha256, job.windows->windows.size()};
  if (job.importance) all["importance"] = job.importance->sha256;
  const std::string text = all.dump();
  Sha256 hash;
  hash.update(std::as_bytes(std::span(text)));
  return hash.hex();
}

/// What the transforms need of the model before anything is planned.
Status make_ready(Job& job, const QuantizeOptions& options, bool plan_only, Progress& progress) {
  if (!turns(job.transforms, Channels::residual)) return {};
  NIBBLE_DO(open_model(job, options));
  job.untied = job.model->config().tied;
  NIBBLE_DO_IN(options.source, untie(*job.model, job.transforms));
  job.checkpoint->untie_head();
  if (job.untied && !plan_only)
    progress.note(
        "the head was the embedding matrix and gets a tensor of its own, output.weight, for turned "
        "they differ: the file is larger by it");
  return {};
}

/// Rewrites the model by the recipe's transforms.
Status transform(Job& job, const QuantizeOptions& options, Progress& progress) {
  RewriteOptions rewriting{
      .source = options.source,
      .folder = job.spill_folder,
      .threads = options.threads,
      .formats = {},
      .rounder = find_rounder(job.rounder->needs_stats() ? "importance" : "nearest")};
  for (const PlannedTensor& planned : job.plan.tensors)
    if (planned.quantizable) rewriting.formats[planned.tensor.name] = planned.tensor.format;
  Corpus part = *job.windows;
  part.windows.resize(std::min(part.windows.size(), kChoiceWindows));
  NIBBLE_DO(rewrite(*job.model, job.transforms, part, rewriting, progress));
  job.checkpoint = rewritten(std::move(job.checkpoint), *job.model);
  if (job.rounder->needs_moments() || !job.rounder->needs_stats()) return {};
  return look_for_importance(job, options, progress);
}

Status plan(Job& job, const QuantizeOptions& options, const Target& target,
            std::span<const Override> overrides) {
  const bool importance = wants_importance(options, job.rounder->needs_stats());
  NIBBLE_TRY(job.plan, make_plan(job.checkpoint->plan_input(), target, overrides, importance));
  for (std::size_t i = 0; i < job.plan.tensors.size(); ++i) {
    PlannedTensor& planned = job.plan.tensors[i];
    if (!copied(job, i)) planned.tensor.order = {};
    if (job.untied && role_of(planned.tensor.name) == Role::output)
      planned.reason += planned.reason.empty() ? "no longer tied to the embedding"
                                               : ", no longer tied to the embedding";
  }
  if (!target.packer) {
    NIBBLE_TRY(job.metadata, job.checkpoint->metadata());
  }
  add_provenance(job);
  job.destination = Destination::of(job, options);
  NIBBLE_TRY_IN(options.source, job.bytes, job.destination->bytes());
  return {};
}

}  // namespace

void set_source(Metadata& metadata, std::span<const std::string> sha256) {
  std::vector<std::string> digests;
  for (const std::string& each : sha256) digests.push_back(digest(each));
  if (digests.size() == 1)
    metadata.set(kSourceKey, digests.front());
  else
    metadata.set(kSourceKey, std::move(digests));
}

Job::Job() = default;
Job::~Job() = default;

bool copied(const Job& job, std::size_t index) {
  const PlannedTensor& planned = job.plan.tensors[index];
  return planned.stored == planned.tensor.format && job.checkpoint->keeps_values(index);
}

std::vector<TensorInfo> planned_tensors(const Plan& plan) {
  std::vector<TensorInfo> tensors;
  for (const PlannedTensor& planned : plan.tensors) tensors.push_back(planned.tensor);
  return tensors;
}

std::span<const float> importance_of(const Job& job, const TensorInfo& tensor) {
  if (!job.importance) return {};
  const ImatrixEntry* entry = job.importance->imatrix.find(tensor.name);
  return entry ? std::span<const float>(entry->mean_square) : std::span<const float>{};
}

/// What can be said of the inputs of matrices without error feedback is not enough for some.
Status check_needs(const Target& target) {
  if (target.packer->act_order())
    return fail(ErrorCode::invalid,
                "--to {}: act-order sorts columns by what error feedback learns of them; take "
                "--recipe gptq, or leave -actorder away",
                target.text);
  if (target.packer->needs_largest_input())
    return fail(ErrorCode::invalid,
                "--to {}: static scales are those of the inputs on a text, which error feedback "
                "measures; take --recipe gptq, or leave -static away",
                target.text);
  return {};
}

Status prepare(Job& job, const QuantizeOptions& options, bool plan_only, Progress& progress) {
  NIBBLE_DO(check_budget(options));
  if (!job.checkpoint) {
    NIBBLE_TRY(job.checkpoint, Checkpoint::open(options.source));
  }
  NIBBLE_TRY(job.recipe, recipe_of(options, plan_only, progress));
  NIBBLE_TRY(job.rounder, rounder_of(job.recipe));
  NIBBLE_TRY(job.transforms, transforms_of(job.recipe));
  const bool budgeted = options.target.empty() && job.recipe.target == budget_name(options.budget);
  NIBBLE_TRY(const Target target, parse_target(budgeted ? "keep" : job.recipe.target));
  if (!plan_only) NIBBLE_DO(check_output(target, options));
  if (target.packer && !job.rounder->needs_moments()) NIBBLE_DO(check_needs(target));
  NIBBLE_DO(make_ready(job, options, plan_only, progress));
  if (target.packer && job.checkpoint->model())
    job.checkpoint = as_stored(std::move(job.checkpoint));
  std::vector<Override> overrides;
  for (const std::string& text : options.overrides) {
    NIBBLE_TRY(Override each, parse_override(text));
    overrides.push_back(std::move(each));
  }
  // The mixtures of levels depend on importance, whatever the rounding.
  const bool wanted = (target.packer ? job.rounder->needs_stats()
                                     : wants_importance(options, job.rounder->needs_stats())) ||
                      !job.transforms.empty();
  if (wanted && (budgeted || !plan_only)) {
    NIBBLE_DO(plan(job, options, target, overrides));  // finds what cannot be before the long work
    const Status done = calibrate(job, options, progress);
    if (!done && done.error().code() == ErrorCode::corrupt)
      NIBBLE_DO(check_weights(*job.checkpoint));
    NIBBLE_DO(done);
  }
  if (!plan_only) {
    NIBBLE_TRY(job.journal, Journal::open(options.output + ".journal", identity(job, options)));
    if (job.journal->resumed()) progress.note("going on from where an earlier run was stopped");
  }
  NIBBLE_DO(plan(job, options, target, overrides));
  if (budgeted) {
    NIBBLE_DO(fit(job, options, overrides, progress));  // for the model as it is
    NIBBLE_DO(plan(job, options, target, overrides));
  }
  if (job.transforms.empty() || plan_only) return {};
  NIBBLE_DO(transform(job, options, progress));
  return plan(job, options, target, overrides);
}

Status plan_again(Job& job, const QuantizeOptions& options, const std::string& text) {
  NIBBLE_TRY(const Target target, parse_target(text));
  job.recipe.target = text;
  return plan(job, options, target, {});
}

QuantizeReport report_of(const Job& job) {
  const Plan& plan = job.plan;
  QuantizeReport report{.target = plan.target.name(),
                        .recipe = to_string(job.recipe),
                        .architecture = job.checkpoint->plan_input().arch,
                        .bytes = job.bytes,
                        .tensor_bytes = plan.tensor_bytes,
                        .parameters = plan.weights,
                        .bits_per_weight = plan.bits_per_weight(),
                        .budget = job.budget};
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

}  // namespace nibble
