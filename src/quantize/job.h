// Everything about a run that is decided before the first weight is rounded.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "calib/corpus.h"
#include "nibble/quantize.h"
#include "plan/plan.h"
#include "plan/recipe.h"
#include "quantize/checkpoint.h"
#include "quantize/importance.h"
#include "quantize/journal.h"
#include "quantize/judge.h"
#include "round/rounder.h"
#include "transform/transform.h"

namespace nibble {

// Where a file says what it was made of. Digests are the first 32 hexadecimal digits of a SHA-256,
// so that all of it takes less room than the keys of other quantizers.
inline constexpr char kSourceKey[] = "nibble.source";  // a digest, or one for each file
inline constexpr char kRecipeKey[] = "nibble.recipe";  // RECIPE VERSION [DIGEST [TOKENS TEXT]]
inline constexpr std::size_t kDigestDigits = 32;

class Destination;

struct Job {
  Job();
  ~Job();
  std::unique_ptr<Checkpoint> checkpoint;
  Recipe recipe;
  const Rounder* rounder = nullptr;
  std::vector<const Transform*> transforms = {};
  std::optional<Importance> importance;
  std::unique_ptr<Model> model;   // where it is to be run
  bool untied = false;            // its head, and the checkpoint's, for a transform
  std::optional<Corpus> windows;  // where the rounding makes use of second moments
  std::string spill_folder;       // where activations wait; empty: in memory
  std::optional<Journal> journal;
  std::optional<Judge> judge;  // of a budget
  std::optional<BudgetReport> budget;
  Plan plan;
  Metadata metadata;  // of the output, with a placeholder for the digest of the source
  std::vector<std::string> source_sha256;  // of its files, when all is written
  std::unique_ptr<Destination> destination;
  std::uint64_t bytes = 0;
};

/// Says in `metadata` what files the model was in, by their SHA-256.
void set_source(Metadata& metadata, std::span<const std::string> sha256);

/// The bytes of this tensor are taken from the source as they are.
bool copied(const Job& job, std::size_t index);

/// `plan_only`: nothing is written, not even a journal, and importance is not looked for where only
/// whether there is any matters to a plan. An error leaves what was prepared in `job`. A checkpoint
/// that the job has already is taken in place of options.source.
Status prepare(Job& job, const QuantizeOptions& options, bool plan_only, Progress& progress);

/// The plan for another target, of a job that was prepared with plan_only.
Status plan_again(Job& job, const QuantizeOptions& options, const std::string& target);

/// What is known before the first weight is rounded.
QuantizeReport report_of(const Job& job);

std::vector<TensorInfo> planned_tensors(const Plan& plan);

/// Importance of the columns of a tensor, in the order of the importance matrix; empty: unknown.
std::span<const float> importance_of(const Job& job, const TensorInfo& tensor);

}  // namespace nibble
