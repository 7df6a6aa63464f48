#include "nibble/advise.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <tuple>

#include "advise/loss.h"
#include "advise/shapes.h"
#include "advise/speed.h"
#include "base/human.h"
#include "graph/memory.h"
#include "kernel/caches.h"
#include "quantize/destination.h"
#include "quantize/job.h"

namespace nibble {
namespace {

constexpr char kAsItIs[] = "as it is";
constexpr std::uint64_t kSystemShare = 10;  // a tenth of a machine's memory is left to others
constexpr std::uint64_t kTightContext = 512;

struct PurposeRule {
  Purpose purpose;
  std::string_view name;
  double tolerance;  // KL divergence, nats a token
};
constexpr PurposeRule kPurposes[] = {{Purpose::chat, "chat", 0.05},
                                     {Purpose::code, "code", 0.02},
                                     {Purpose::math, "math", 0.02},
                                     {Purpose::speed, "speed", 0.2}};

const PurposeRule& rule_of(Purpose purpose) {
  return *std::ranges::find(kPurposes, purpose, &PurposeRule::purpose);
}

/// Of the program with its libraries, and of a tokenizer for each of its entries, resident: what
/// `nibble run` takes beside the sums of graph/memory.h, measured with vocabularies of 97 and
/// 49152.
constexpr std::uint64_t kProgramBytes = 23500000, kTokenBytes = 400;

std::uint64_t parameters_of(const std::vector<TensorInfo>& tensors) {
  std::uint64_t sum = 0;
  for (const TensorInfo& tensor : tensors) sum += tensor.elements();
  return sum;
}

/// The format that most weights are in.
const Format& main_format(const std::vector<TensorInfo>& tensors) {
  std::map<const Format*, std::uint64_t> weights;
  for (const TensorInfo& tensor : tensors) weights[tensor.format] += tensor.elements();
  return *std::ranges::max_element(weights, {}, [](const auto& entry) {
            return entry.second;
          })->first;
}

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = char(c - 'a' + 'A');
  return out;
}

/// Share of the weights that did not get what the level says because of their width.
double other_formats(const Plan& plan) {
  std::uint64_t other = 0;
  for (const PlannedTensor& planned : plan.tensors)
    if (planned.quantizable && planned.wanted != planned.tensor.format)
      other += planned.tensor.elements();
  return plan.weights > 0 ? double(other) / double(plan.weights) : 0;
}

class Adviser {
 public:
  Adviser(const AdviseOptions& options, const Machine& machine, Progress& progress)
      : options_(options), machine_(machine), progress_(progress) {}

  Result<Advice> run() {
    NIBBLE_TRY(shapes_, open_shapes(options_.source));
    NIBBLE_TRY(losses_, read_losses(options_.evaluations));
    NIBBLE_TRY(cache_, find_cache(options_.cache, Precision::fast));
    NIBBLE_DO(describe());
    NIBBLE_DO(plan_levels());
    if (options_.measure_speed) NIBBLE_DO(measure());
    rank();
    add_notes();
    return std::move(advice_);
  }

 private:
  /// One level with what it makes of the tensors.
  struct Candidate {
    AdvisedLevel level;
    std::vector<TensorInfo> tensors;
  };

  Status describe() {
    const auto& tensors = shapes_.checkpoint->tensors();
    advice_.machine = machine_;
    advice_.source = options_.source;
    advice_.architecture = shapes_.config.arch;
    advice_.parameters = parameters_of(tensors);
    advice_.purpose = options_.purpose;
    advice_.runs = shapes_.graph.has_value();
    advice_.context = options_.context;
    advice_.notes = shapes_.notes;
    if (options_.context < 1) return fail(ErrorCode::invalid, "a context has at least one token");
    if (shapes_.config.context > 0 && advice_.context > shapes_.config.context) {
      advice_.context = shapes_.config.context;
      advice_.notes.push_back(fmt::format(
          "the model was made for a context of {} tokens; more are not counted", advice_.context));
    }
    advice_.memory_bytes = options_.memory_bytes > 0
                               ? options_.memory_bytes - options_.memory_bytes / kSystemShare
                               : machine_.free_bytes;
    fits_blocks_ = std::ranges::all_of(tensors, [](const TensorInfo& tensor) {
      return !is_quantizable(tensor.name, tensor.shape.size()) || tensor.columns() % 256 == 0;
    });
    return {};
  }

  std::vector<std::string> level_names(const Format& stored) const {
    if (!options_.levels.empty()) return options_.levels;
    std::vector<std::string> out;
    if (stored.block() == 1 && find_level(stored.id())) out.push_back(upper(stored.id()));
    for (const std::string_view level : usual_levels()) out.emplace_back(level);
    return out;
  }

  Status plan_levels() {
    Job job;
    job.checkpoint = std::move(shapes_.checkpoint);
    QuantizeOptions options;
    options.source = options_.source, options.recipe = "importance";
    const Format& stored = main_format(job.checkpoint->tensors());
    if (stored.block() > 1)
      advice_.notes.push_back(
          "the source is quantized already: what smaller levels lose comes on top of what it lost");
    bool first = true;
    for (const std::string& name : level_names(stored)) {
      const Level* level = find_level(name);
      if (!level) return fail(ErrorCode::invalid, "no level named '{}'", name);
      options.target = level->name;
      NIBBLE_DO(first ? prepare(job, options, true, progress_)
                      : plan_again(job, options, options.target));
      first = false;
      add(std::string(level->name), job);
      if (level->format == stored.id())
        candidates_.back().level.loss =
            LevelLoss{.same_top = 1, .own = true, .origin = "the model itself"};
    }
    if (shapes_.weights && job.checkpoint->source().container() == "gguf" && stored.block() > 1) {
      NIBBLE_DO(plan_again(job, options, "keep"));
      add(kAsItIs, job);
      describe_file(job);
    }
    shapes_.checkpoint = std::move(job.checkpoint);
    return {};
  }

  /// The file that is there, not one that would be written.
  void describe_file(const Job& job) {
    const Source& source = job.checkpoint->source();
    AdvisedLevel& level = candidates_.back().level;
    level.file_bytes = 0;
    for (const std::string& path : source.files()) {
      std::error_code ignored;
      level.file_bytes += std::filesystem::file_size(path, ignored);
    }
    const auto type = source.metadata().uint("general.file_type");
    for (const Level& each : level_table())
      if (type && each.file_type == *type) level.loss = loss_of(each.name);
  }

  std::optional<LevelLoss> loss_of(std::string_view level) const {
    if (const auto own = losses_.find(std::string(level)); own != losses_.end()) return own->second;
    return table_loss(level, options_.purpose, advice_.parameters, fits_blocks_);
  }

  void add(std::string name, const Job& job) {
    Candidate& candidate = candidates_.emplace_back();
    candidate.tensors = planned_tensors(job.plan);
    AdvisedLevel& level = candidate.level;
    level.name = std::move(name);
    level.file_bytes = job.bytes;
    level.bits_per_weight = job.plan.bits_per_weight();
    level.other_formats = other_formats(job.plan);
    level.memory = memory_of(candidate.tensors, advice_.context);
    level.fits = level.memory.total() <= advice_.memory_bytes;
    level.loss = loss_of(level.name);
  }

  MemoryNeed memory_of(std::span<const TensorInfo> tensors, std::uint32_t context) const {
    MemoryNeed need{.weights = weight_bytes(tensors),
                    .cache = cache_bytes(shapes_.config, *cache_, context)};
    if (!shapes_.graph) return need;
    need.work = work_bytes(*shapes_.graph, Precision::fast, context, machine_.threads);
    need.program = kProgramBytes + kTokenBytes * shapes_.config.vocab;
    return need;
  }

  Status measure() {
    if (!shapes_.graph) return {};
    SpeedProbe probe(*shapes_.graph, advice_.context, *cache_, machine_.threads,
                     machine_.free_bytes / 2);
    std::size_t done = 0, skipped = 0;
    progress_.begin("measuring speed", candidates_.size(), "levels");
    for (Candidate& candidate : candidates_) {
      NIBBLE_TRY(candidate.level.speed, probe.measure(candidate.tensors));
      skipped += !candidate.level.speed;
      progress_.update(++done);
      if (progress_.cancelled()) return fail(ErrorCode::cancelled, "stopped");
    }
    progress_.end();
    if (skipped > 0)
      advice_.notes.push_back(fmt::format(
          "the speed of {} levels was not measured: one of their blocks takes too much of the "
          "memory that is free here",
          skipped));
    return {};
  }

  /// Smaller is better, the first that differs decides: it fits; it loses little enough; among
  /// those the faster (or smaller), among the others what loses less.
  auto key(const AdvisedLevel& level) const {
    const double tolerance = rule_of(options_.purpose).tolerance;
    const double loss = level.loss ? level.loss->kld : 1e9;
    const bool little = loss <= tolerance;
    const double slow = level.speed ? 1 / level.speed->decode_full : double(level.file_bytes);
    return std::tuple(!level.fits, level.fits ? 0 : level.memory.total(), !little,
                      little ? slow : loss, -level.bits_per_weight);
  }

  void rank() {
    std::ranges::stable_sort(candidates_, {}, [&](const Candidate& c) { return key(c.level); });
    for (const Candidate& candidate : candidates_) advice_.levels.push_back(candidate.level);
    if (!advice_.levels.empty() && advice_.levels.front().fits) advice_.recommended = 0;
    const PurposeRule& rule = rule_of(options_.purpose);
    advice_.rule = fmt::format(
        "for {}: of the levels that fit, the {} one that loses at most {} nats a token on {}; then "
        "by what they lose",
        rule.name, advice_.runs && options_.measure_speed ? "fastest" : "smallest", rule.tolerance,
        text_for(options_.purpose));
  }

  void add_notes() {
    const bool table = std::ranges::any_of(
        advice_.levels, [](const AdvisedLevel& level) { return level.loss && !level.loss->own; });
    if (table) {
      std::uint64_t largest = 0;
      for (const std::uint64_t size : table_sizes()) largest = std::max(largest, size);
      if (advice_.parameters > 2 * largest)
        advice_.notes.push_back(
            fmt::format("quality was measured on models of up to {:.0f}M parameters; larger ones "
                        "usually lose less, "
                        "how much less nibble has not measured",
                        double(largest) * 1e-6));
    }
    const bool special = options_.purpose == Purpose::code || options_.purpose == Purpose::math;
    if (table && special && text_for(options_.purpose) != name_of(options_.purpose))
      advice_.notes.push_back(
          fmt::format("losses on {} are not measured yet: those on {} stand for "
                      "them",
                      name_of(options_.purpose), text_for(options_.purpose)));
    if (options_.memory_bytes > 0)
      advice_.notes.push_back(
          fmt::format("of {} a tenth is left to the system", human_bytes(options_.memory_bytes)));
    if (!machine_.gpus.empty())
      advice_.notes.push_back("nibble runs on processors only: the graphics cards are not used");
    if (options_.measure_speed && advice_.runs)
      advice_.notes.push_back("speeds are those of this machine");
    if (!advice_.recommended) add_what_would_fit();
  }

  /// Nothing fits: a shorter context if that helps, else the least memory that would do.
  void add_what_would_fit() {
    if (candidates_.empty()) return;
    const Candidate& least = candidates_.front();
    const auto need = [&](std::uint64_t context) {
      return memory_of(least.tensors, std::uint32_t(context)).total();
    };
    std::string note = fmt::format("nothing fits into {}: {}, the smallest, needs {} at {} tokens",
                                   human_bytes(advice_.memory_bytes), least.level.name,
                                   human_bytes(least.level.memory.total()), advice_.context);
    std::uint64_t context = advice_.context;
    while (context > kTightContext && need(context) > advice_.memory_bytes) context /= 2;
    if (need(context) <= advice_.memory_bytes)
      note += fmt::format("; with a context of {} tokens it fits (--ctx {})", context, context);
    else
      note += fmt::format("; at {} tokens it would still need {}: {} is needed", context,
                          human_bytes(need(context)),
                          options_.levels.empty() ? "a smaller model" : "a smaller level or model");
    advice_.notes.push_back(std::move(note));
  }

  const AdviseOptions& options_;
  const Machine& machine_;
  Progress& progress_;
  Shapes shapes_;
  const CacheOps* cache_ = nullptr;
  std::map<std::string, LevelLoss> losses_;
  bool fits_blocks_ = false;
  std::vector<Candidate> candidates_;
  Advice advice_;
};

}  // namespace

std::optional<Purpose> find_purpose(std::string_view name) {
  const auto* found = std::ranges::find(kPurposes, name, &PurposeRule::name);
  return found == std::end(kPurposes) ? std::nullopt : std::optional(found->purpose);
}

std::string_view name_of(Purpose purpose) { return rule_of(purpose).name; }

Result<Advice> advise(const AdviseOptions& options, const Machine& machine, Progress& progress) {
  return Adviser(options, machine, progress).run();
}

}  // namespace nibble
