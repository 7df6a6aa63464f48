#include "nibble/benchmark.h"

#include <chrono>

#include "arch/arch.h"
#include "base/cpu.h"
#include "eval/energy.h"
#include "eval/machine.h"
#include "eval/rounds.h"
#include "eval/speculation.h"
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

/// Token ids spread over the vocabulary: speed does not depend on which they are.
std::vector<std::uint32_t> some_tokens(std::uint32_t n, std::uint32_t vocab) {
  std::vector<std::uint32_t> tokens(n);
  for (std::uint32_t i = 0; i < n; ++i)
    tokens[i] = std::uint32_t((std::uint64_t(i) * 2654435761u) % vocab);
  return tokens;
}

/// Rounds of one kind of work: rates, and energy if there is a counter.
class Rounds {
 public:
  explicit Rounds(EnergyCounter* energy) : energy_(energy) {}

  /// work() runs `tokens` tokens.
  template <class Work>
  Status run(std::uint64_t tokens, const Work& work) {
    if (energy_) NIBBLE_DO(energy_->lap());
    const Stopwatch time;
    NIBBLE_DO(work());
    rounds_.push_back(double(tokens) / time.seconds());
    if (energy_) {
      NIBBLE_TRY(const double joules, energy_->lap());
      joules_.push_back(joules / double(tokens));
    }
    return {};
  }

  MeasuredRate rate() && {
    MeasuredRate out = rate_of(std::move(rounds_));
    if (energy_) out.joules_per_token = median(joules_);
    return out;
  }

 private:
  EnergyCounter* energy_;
  std::vector<double> rounds_, joules_;
};

/// Sequences that go on together, one token of each a step.
class Decoding {
 public:
  Decoding(Runtime& runtime, std::uint32_t sequences, std::uint32_t context, std::uint32_t steps,
           EnergyCounter* energy)
      : context_(context), steps_(steps), batch_(runtime), rounds_(energy) {
    const std::uint32_t vocab = runtime.graph().config.vocab;
    for (std::uint32_t i = 0; i < sequences; ++i)
      sessions_.emplace_back(runtime, context + steps + 1);
    tokens_ = some_tokens(steps + 1, vocab);
  }

  Status round() {
    for (Session& session : sessions_) NIBBLE_DO(session.pretend(context_));
    NIBBLE_DO(step(steps_));  // warms up
    return rounds_.run(std::uint64_t(steps_) * sessions_.size(), [&]() -> Status {
      for (std::uint32_t i = 0; i < steps_; ++i) NIBBLE_DO(step(i));
      return {};
    });
  }

  MeasuredDecode measured() && {
    return {.sequences = std::uint32_t(sessions_.size()),
            .context = context_,
            .rate = std::move(rounds_).rate()};
  }

 private:
  Status step(std::uint32_t index) {
    std::vector<Batch::Part> parts;
    for (Session& session : sessions_) parts.push_back({&session, std::span(&tokens_[index], 1)});
    return batch_.forward(parts);
  }

  std::uint32_t context_, steps_;
  std::vector<Session> sessions_;
  std::vector<std::uint32_t> tokens_;
  Batch batch_;
  Rounds rounds_;
};

Status check(const BenchmarkOptions& options) {
  if (options.prompt_tokens < 1 || options.generated_tokens < 1 || options.rounds < 1)
    return fail(ErrorCode::invalid, "prompt, generated tokens and rounds must be at least 1");
  for (const std::uint32_t sequences : options.batches)
    if (sequences < 1 || sequences > Batch::kTokens)
      return fail(ErrorCode::invalid, "{} sequences cannot decode together: 1 to {} can", sequences,
                  Batch::kTokens);
  if (!options.draft.empty() && options.text.empty())
    return fail(ErrorCode::invalid, "a draft model needs a text to answer");
  return {};
}

/// What decodes are asked for, the plain one first.
std::vector<std::pair<std::uint32_t, std::uint32_t>> decode_cases(const BenchmarkOptions& options) {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> out = {{1, 0}};
  for (const std::uint32_t sequences : options.batches)
    for (const std::uint32_t context : options.contexts)
      if (std::ranges::count(out, std::pair(sequences, context)) == 0)
        out.emplace_back(sequences, context);
  return out;
}

/// All that is measured in rounds.
Status measure(const BenchmarkOptions& options, Runtime& runtime, Session& session,
               std::span<const std::uint32_t> prompt, BenchmarkReport& report, Progress& progress) {
  auto counter = EnergyCounter::open(options.powercap);
  if (counter)
    report.energy_domains = counter->domains();
  else
    report.no_energy = counter.error().message();
  EnergyCounter* energy = counter ? &*counter : nullptr;

  const auto cases = decode_cases(options);
  std::uint64_t done = 0;
  progress.begin("measuring", options.rounds * (cases.size() + 1), "rounds");
  const auto repeat = [&](const auto& round) -> Status {
    for (std::uint32_t i = 0; i < options.rounds; ++i) {
      if (progress.cancelled()) return fail(ErrorCode::cancelled, "stopped while measuring");
      NIBBLE_DO(round());
      progress.update(++done);
    }
    return {};
  };
  Rounds prefill(energy);
  NIBBLE_DO(repeat([&] {
    session.truncate(0);
    return prefill.run(prompt.size(), [&]() -> Status {
      NIBBLE_TRY([[maybe_unused]] const auto logits, session.forward(prompt));
      return {};
    });
  }));
  report.prefill = std::move(prefill).rate();
  for (const auto& [sequences, context] : cases) {
    Decoding decoding(runtime, sequences, context, options.generated_tokens, energy);
    NIBBLE_DO(repeat([&] { return decoding.round(); }));
    report.decodes.push_back(std::move(decoding).measured());
  }
  report.decode = std::move(report.decodes.front().rate);
  report.decodes.erase(report.decodes.begin());
  progress.end();
  return {};
}

}  // namespace

Result<BenchmarkReport> benchmark(const BenchmarkOptions& options, Progress& progress) {
  NIBBLE_DO(check(options));
  const Stopwatch total;
  NIBBLE_TRY(const Model model, Model::open(options.model));
  const auto precision = options.exact ? Precision::exact : Precision::fast;
  const RuntimeOptions runtime_options = {.threads = options.threads,
                                          .precision = precision,
                                          .cache = options.cache,
                                          .packed = options.packed};
  NIBBLE_TRY_IN(options.model, const auto runtime, Runtime::load(model, runtime_options, progress));
  BenchmarkReport report;
  report.load_seconds = total.seconds();
  Session session(*runtime, options.prompt_tokens);
  const auto prompt = some_tokens(options.prompt_tokens, model.config().vocab);
  NIBBLE_TRY([[maybe_unused]] const auto first, session.forward(prompt));
  report.first_token_seconds = total.seconds();
  NIBBLE_DO(measure(options, *runtime, session, prompt, report, progress));
  if (!options.text.empty()) {
    NIBBLE_TRY(report.speculation, measure_speculation(options, model, *runtime, progress));
  }
  report.isa = std::string(active_isa()), report.cache = runtime->cache().type;
  report.cache_token_bytes =
      KvPagePool::page_bytes(model.config(), runtime->cache()) / std::uint64_t(kPagePositions);
  report.threads = runtime->pool().size();
  for (const TensorInfo& tensor : model.source().tensors()) report.file_bytes += tensor.bytes;
  report.weight_bytes = runtime->weight_bytes();
  report.read_bytes = runtime->read_bytes(), report.products = runtime->products();
  report.machine = measure_machine(runtime->pool());
  return report;
}

}  // namespace nibble
