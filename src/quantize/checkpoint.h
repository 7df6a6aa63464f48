// A checkpoint as the pipeline reads it: tensors under GGUF names, rows on demand.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "arch/arch.h"
#include "base/result.h"
#include "container/metadata.h"
#include "container/source.h"
#include "plan/plan.h"

namespace nibble {

/// What a plan needs to know, by the keys of a GGUF and its tensors.
PlanInput plan_input_of(const Metadata& metadata, std::vector<TensorInfo> tensors);

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  /// GGUF files are taken as they are, tensor by tensor, also of architectures that nibble does not
  /// know; checkpoints of Hugging Face go through their architecture.
  static Result<std::unique_ptr<Checkpoint>> open(const std::string& path);

  virtual const Source& source() const = 0;
  virtual const PlanInput& plan_input() const = 0;
  /// What says how a checkpoint of Hugging Face keeps these tensors; nullptr: the source is none.
  virtual const Model* model() const { return nullptr; }
  const std::vector<TensorInfo>& tensors() const { return plan_input().tensors; }
  /// All keys of the output but those that depend on the plan.
  virtual Result<Metadata> metadata() const = 0;

  /// Rows [begin, end) as float32. Thread-safe.
  virtual void load_rows(std::size_t index, std::uint64_t begin, std::uint64_t end,
                         float* out) const = 0;
  /// The same rows as stored bytes; only where keeps_values(index). Thread-safe.
  virtual void load_bytes(std::size_t index, std::uint64_t begin, std::uint64_t end,
                          std::byte* out) const = 0;
  virtual bool keeps_values(std::size_t index) const = 0;
  /// Gives a head that is the embedding matrix a tensor of its own (Model::untie_head).
  virtual void untie_head() = 0;
  virtual void release(std::size_t index, std::uint64_t begin, std::uint64_t end) const = 0;
};

/// `checkpoint` with the values as the Hugging Face checkpoint keeps them (Gemma's norms without
/// the 1 that GGUF adds). checkpoint->model() is not null.
std::unique_ptr<Checkpoint> as_stored(std::unique_ptr<Checkpoint> checkpoint);

/// `checkpoint` with the values that `model`, the same one rewritten, has. Both must live as long.
std::unique_ptr<Checkpoint> rewritten(std::unique_ptr<Checkpoint> checkpoint, const Model& model);

}  // namespace nibble
