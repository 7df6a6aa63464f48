#include "nibble/benchmark.h"

#include <algorithm>
#include <chrono>

#include "arch/arch.h"
#include "base/cpu.h"
#include "eval/machine.h"
#include "graph/runtime.h"

namespace nibble {
namespace {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/// Token ids spread over the vocabulary: speed does not depend on which they are.
std::vector<std::uint32_t> some_tokens(std::uint32_t n, std::uint32_t vocab) {
  std::vector<std::uint32_t> tokens(n);
  for (std::uint32_t i = 0; i < n; ++i)
    tokens[i] = std::uint32_t((std::uint64_t(i) * 2654435761u) % vocab);
  return tokens;
}

Status run_round(Session& session, std::span<const std::uint32_t> prompt, std::uint32_t generated,
                 BenchmarkReport& report) {
  session.truncate(0);
  const Stopwatch prefill;
  NIBBLE_TRY([[maybe_unused]] const auto first, session.forward(prompt));
  report.prefill_rounds.push_back(double(prompt.size()) / prefill.seconds());
  session.truncate(0);
  NIBBLE_TRY([[maybe_unused]] const auto warm, session.forward(prompt.first(1)));
  const Stopwatch decode;
  for (std::uint32_t i = 0; i < generated; ++i) {
    NIBBLE_TRY([[maybe_unused]] const auto logits,
               session.forward(prompt.subspan(i % prompt.size(), 1)));
  }
  report.decode_rounds.push_back(generated / decode.seconds());
  return {};
}

}  // namespace

Result<BenchmarkReport> benchmark(const BenchmarkOptions& options, Progress& progress) {
  if (options.prompt_tokens < 1 || options.generated_tokens < 1 || options.rounds < 1)
    return fail(ErrorCode::invalid, "prompt, generated tokens and rounds must be at least 1");
  const Stopwatch total;
  NIBBLE_TRY(const Model model, Model::open(options.model));
  const auto precision = options.exact ? Precision::exact : Precision::fast;
  NIBBLE_TRY_IN(
      options.model, const auto runtime,
      Runtime::load(model, {.threads = options.threads, .precision = precision}, progress));
  BenchmarkReport report;
  report.load_seconds = total.seconds();
  const std::uint32_t context = std::max(options.prompt_tokens, options.generated_tokens + 1);
  Session session(*runtime, context);
  const auto prompt = some_tokens(options.prompt_tokens, model.config().vocab);
  NIBBLE_TRY([[maybe_unused]] const auto first, session.forward(prompt));
  report.first_token_seconds = total.seconds();
  progress.begin("measuring", options.rounds, "rounds");
  for (std::uint32_t i = 0; i < options.rounds; ++i) {
    if (progress.cancelled())
      return fail(ErrorCode::cancelled, "stopped after {} of {} rounds", i, options.rounds);
    NIBBLE_DO(run_round(session, prompt, options.generated_tokens, report));
    progress.update(i + 1);
  }
  progress.end();
  report.isa = std::string(active_isa());
  report.threads = runtime->pool().size();
  for (const TensorInfo& tensor : model.source().tensors()) report.file_bytes += tensor.bytes;
  report.weight_bytes = runtime->weight_bytes();
  report.read_bytes = runtime->read_bytes(), report.products = runtime->products();
  report.machine = measure_machine(runtime->pool());
  report.prefill_tokens_per_second = median(report.prefill_rounds);
  report.decode_tokens_per_second = median(report.decode_rounds);
  return report;
}

}  // namespace nibble
