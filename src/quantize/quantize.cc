#include "nibble/quantize.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/profile.h"
#include "format/exact.h"
#include "quantize/destination.h"
#include "quantize/file_hash.h"
#include "quantize/job.h"
#include "quantize/maker.h"
#include "quantize/speed.h"

namespace nibble {
namespace {

using Clock = std::chrono::steady_clock;

/// What became of tensors that were quantized already.
void note_losses(const Job& job, const QuantizeReport& report, Progress& progress) {
  std::size_t exact = 0, again = 0;
  double error = 0, weight = 0;
  for (std::size_t i = 0; i < report.tensors.size(); ++i) {
    const QuantizedTensor& tensor = report.tensors[i];
    const PlannedTensor& planned = job.plan.tensors[i];
    if (planned.stored->block() == 1 || planned.stored == planned.tensor.format) continue;
    exact += tensor.exact, again += !tensor.exact;
    error += tensor.squared_error, weight += tensor.squared_weight;
  }
  if (exact > 0)
    progress.note(fmt::format("{} quantized tensors have just the values they had", exact));
  if (again > 0)
    progress.note(
        fmt::format("{} quantized tensors were rounded once more, which moved their values by "
                    "{:.2f}% (root mean square)",
                    again, weight > 0 ? 100 * std::sqrt(error / weight) : 0));
}

void note_choices(const Job& job, Progress& progress) {
  std::size_t lossy = 0, unknown = 0;
  std::string example;
  for (const std::string& note : job.checkpoint->source().notes()) progress.note(note);
  for (const PlannedTensor& planned : job.plan.tensors) {
    const bool quantized = planned.tensor.format->block() > 1;
    lossy += quantized && planned.stored->block() > 1 && planned.stored != planned.tensor.format &&
             !may_convert_exactly(*planned.stored, *planned.tensor.format);
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

std::uint64_t peak_memory() {
  struct rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return std::uint64_t(usage.ru_maxrss) * 1024;
}

/// Fills the unfinished output and gives it its name.
Status write_output(Job& job, const QuantizeOptions& options, Writer& writer,
                    QuantizeReport& report, Progress& progress) {
  FileHasher hasher(job.checkpoint->source().files());
  ThreadPool pool(options.threads);
  NIBBLE_DO(make_tensors(job, options.threads, pool, writer, report, progress));
  NIBBLE_TRY(job.source_sha256, hasher.finish());
  set_source(job.metadata, job.source_sha256);
  NIBBLE_DO(job.destination->complete(report, pool, progress));
  if (progress.cancelled()) return fail(ErrorCode::cancelled, "stopped");
  NIBBLE_TRY(report.files, writer.finish());
  report.output = job.plan.target.packer ? options.output : report.files.front();
  job.journal->remove();
  return {};
}

/// Something is there to go on from, once the disk has room or whoever stopped it wishes to.
bool can_go_on(const Job& job, const Error& error) {
  return !job.journal->empty() &&
         (error.code() == ErrorCode::cancelled || error.code() == ErrorCode::io);
}

Result<QuantizeReport> run(Job& job, const QuantizeOptions& options, Progress& progress) {
  NIBBLE_DO(prepare(job, options, false, progress));
  note_choices(job, progress);
  QuantizeReport report = report_of(job);
  NIBBLE_TRY(Writer* const writer, job.destination->create(job.journal->resumed()));
  if (const Status written = write_output(job, options, *writer, report, progress); !written) {
    if (can_go_on(job, written.error())) writer->leave();
    return tl::unexpected<Error>(written.error());
  }
  note_losses(job, report, progress);
  if (job.judge) {
    NIBBLE_TRY(const Judgement found, job.judge->judge(report.files.front()));
    report.budget->measured = found.kld;
  }
  return report;
}

/// What was spent between two moments, beside what OpenBLAS reaches on the largest matrices.
std::vector<PhaseTime> phase_times(const Job& job, const profile::Sums& before, int threads) {
  using profile::Phase;
  const profile::Sums after = profile::sums();
  ThreadPool pool(threads);
  std::int64_t rows = 1, columns = 1;
  for (const PlannedTensor& planned : job.plan.tensors)
    if (planned.quantizable && planned.tensor.name.starts_with("blk.")) {
      rows = std::max(rows, std::int64_t(planned.tensor.rows()));
      columns = std::max(columns, std::int64_t(planned.tensor.columns()));
    }
  std::vector<PhaseTime> out;
  for (std::size_t i = 0; i < after.size(); ++i) {
    PhaseTime& phase = out.emplace_back();
    phase.name = profile::kNames[i];
    phase.seconds = after[i].seconds - before[i].seconds;
    if (phase.seconds > 0) phase.flops = (after[i].flops - before[i].flops) / phase.seconds;
    if (phase.flops > 0)
      phase.best_flops = Phase(i) == Phase::factors ? cholesky_flops(columns)
                                                    : product_flops(pool, 512, rows, columns);
  }
  return out;
}

}  // namespace

Result<QuantizeReport> plan_quantize(const QuantizeOptions& options) {
  Job job;
  NIBBLE_DO(prepare(job, options, true, no_progress()));
  return report_of(job);
}

Result<QuantizeReport> quantize(const QuantizeOptions& given, Progress& progress) {
  const auto start = Clock::now();
  const profile::Sums before = profile::sums();
  QuantizeOptions options = given;
  while (options.output.size() > 1 && options.output.ends_with('/')) options.output.pop_back();
  Job job;
  auto report = run(job, options, progress);
  if (!report) {
    if (job.journal && !can_go_on(job, report.error())) job.journal->remove();
    return report;
  }
  report->seconds = std::chrono::duration<double>(Clock::now() - start).count();
  report->peak_memory_bytes = peak_memory();
  if (options.profile) report->profile = phase_times(job, before, options.threads);
  return report;
}

}  // namespace nibble
