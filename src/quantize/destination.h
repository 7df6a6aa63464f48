// What a job writes: a GGUF file, or a directory as Hugging Face has them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/threads.h"
#include "container/writer.h"
#include "nibble/quantize.h"
#include "quantize/job.h"

namespace nibble {

class Destination {
 public:
  virtual ~Destination() = default;
  /// Of the kind that the job's target asks for. The job must live as long.
  static std::unique_ptr<Destination> of(const Job& job, const QuantizeOptions& options);

  /// Bytes of the files that will be.
  virtual Result<std::uint64_t> bytes() const = 0;
  /// `resume`: goes on with what an earlier run has left.
  virtual Result<Writer*> create(bool resume) = 0;
  /// Every tensor is written and the job's metadata are final: adds what belongs to it, and checks
  /// what is there by reading it back. Only the name is missing then.
  virtual Status complete(QuantizeReport& report, ThreadPool& pool, Progress& progress) = 0;
};

/// An error where options.output cannot be, is the source, or is there already without --force.
Status check_output(const Target& target, const QuantizeOptions& options);

std::unique_ptr<Destination> gguf_destination(const Job& job, const QuantizeOptions& options);
std::unique_ptr<Destination> hf_destination(const Job& job, const QuantizeOptions& options);

}  // namespace nibble
