#include "quantize/quality.h"

#include <cmath>
#include <filesystem>

#include "base/cpu.h"
#include "quantize/judge.h"
#include "quantize/windows.h"

namespace nibble {
namespace {

constexpr std::size_t kWindows = 8;
constexpr std::size_t kLead = 256;  // tokens: the second half of a window counts, as in eval
constexpr std::uint64_t kBeside = 600u << 20;  // predictions of the source, and the program

/// The source runs from memory as a whole.
Status check_memory(const Job& job, const QuantizeOptions& options) {
  std::uint64_t needed = kBeside;
  for (const TensorInfo& tensor : job.checkpoint->tensors()) needed += tensor.bytes;
  const std::uint64_t physical = physical_memory();
  const std::uint64_t allowed =
      options.memory_bytes > 0 ? options.memory_bytes : physical - physical / 8;
  if (needed <= allowed) return {};
  return fail(ErrorCode::unsupported, "the source takes {} bytes of memory to run, {} are allowed",
              needed, allowed);
}

}  // namespace

Result<QualityReport> measure_quality(const Job& job, const QuantizeOptions& options,
                                      const std::string& path, Progress& progress) {
  NIBBLE_DO(check_memory(job, options));
  NIBBLE_TRY(const Model source, Model::open(options.source));
  NIBBLE_TRY(const Corpus text, judging_text(source, options, job.windows, kWindows, progress));
  NIBBLE_TRY(Judge judge, Judge::open(source, selection_windows(text, kWindows), kLead,
                                      options.threads, progress));
  judge.unload();
  progress.begin("measuring quality", 1, "models");
  NIBBLE_TRY(const Judgement found, judge.judge(path));
  progress.update(1);
  progress.end();
  return QualityReport{.reference_perplexity = std::exp(found.reference_nll),
                       .perplexity = std::exp(found.nll),
                       .kld = found.kld,
                       .tokens = found.tokens,
                       .text = std::filesystem::path(text.name).filename().string()};
}

}  // namespace nibble
