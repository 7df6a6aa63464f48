// nibble advise: which level for this machine.
#include "nibble/advise.h"

#include <fmt/format.h>

#include <memory>

#include "base/result.h"
#include "cli/command.h"
#include "container/hub.h"
#include "nibble/quantize.h"
#include "plan/plan.h"

namespace nibble::cli {
namespace {

struct Options {
  AdviseOptions advise;
  QuantizeOptions quantize;
  std::string purpose = "chat";
  int threads = 0;
  bool apply = false, json = false, no_speed = false;
};

std::string rate(const std::optional<LevelSpeed>& speed, double LevelSpeed::*member) {
  return speed ? fmt::format("{:.{}f}", *speed.*member, *speed.*member < 10 ? 1 : 0) : "-";
}

void print_level(const AdvisedLevel& level, bool recommended) {
  const auto& loss = level.loss;
  fmt::print("{} {:<10}{:>10}{:>11}{:>6.2f}{:>9}{:>9}{:>9}{:>9}{:>8}  {}\n",
             recommended  ? '*'
             : level.fits ? ' '
                          : '-',
             level.name, human_bytes(level.file_bytes), human_bytes(level.memory.total()),
             level.bits_per_weight, rate(level.speed, &LevelSpeed::prefill),
             rate(level.speed, &LevelSpeed::decode), rate(level.speed, &LevelSpeed::decode_full),
             loss ? fmt::format("{:.4f}", loss->kld) : "-",
             loss ? fmt::format("{:.1f}%", 100 * loss->same_top) : "-",
             loss ? loss->origin : "not measured");
}

void print(const Advice& advice) {
  const Machine& m = advice.machine;
  fmt::print("model    {}: {}, {:.4g}B parameters; context {} tokens\n", advice.source,
             advice.architecture, double(advice.parameters) * 1e-9, advice.context);
  fmt::print(
      "machine  {}, {} threads, {} of memory ({} free), read at {}/s; 8-bit products {:.0f} "
      "Gop/s\n",
      m.isa, m.threads, human_bytes(m.memory_bytes), human_bytes(m.free_bytes),
      human_bytes(std::uint64_t(m.speed.bytes_per_second)),
      m.speed.int8_operations_per_second * 1e-9);
  fmt::print("limit    {} of memory\n\n", human_bytes(advice.memory_bytes));
  fmt::print("{:<12}{:>10}{:>11}{:>6}{:>9}{:>9}{:>9}{:>9}{:>8}  {}\n", "", "", "", "", "prompt",
             "answer", "at full", "KL di-", "same", "");
  fmt::print("{:<12}{:>10}{:>11}{:>6}{:>9}{:>9}{:>9}{:>9}{:>8}  {}\n", "  level", "file", "memory",
             "bits", "tok/s", "tok/s", "context", "vergence", "top", "quality measured on");
  for (std::size_t i = 0; i < advice.levels.size(); ++i)
    print_level(advice.levels[i], advice.recommended == i);
  fmt::print("\n* recommended {}\n- does not fit\n", advice.rule);
  for (const std::string& note : advice.notes) fmt::print("Note: {}\n", note);
}

/// Quantizes to what was recommended.
Result<void> apply(Options& options, const Advice& advice, Progress& progress) {
  if (!advice.recommended) return fail(ErrorCode::invalid, "nothing fits, so nothing is written");
  NIBBLE_TRY(options.quantize.source, resolve_source(advice.source, {}, progress));
  options.quantize.target = advice.levels[*advice.recommended].name;
  options.quantize.threads = options.threads;
  if (!parse_target(options.quantize.target))
    return fail(ErrorCode::invalid, "the file fits as it is: there is nothing to quantize");
  NIBBLE_TRY(const QuantizeReport report, quantize(options.quantize, progress));
  fmt::print(stderr, "{}: {} ({})\n", report.files.front(), report.target,
             human_bytes(report.bytes));
  return {};
}

Result<Advice> run(Options& options) {
  ConsoleProgress progress;
  const auto purpose = find_purpose(options.purpose);
  if (!purpose)
    return fail(ErrorCode::invalid, "--for {}: expected chat, code, math or speed",
                options.purpose);
  if (options.apply && options.quantize.output.empty())
    return fail(ErrorCode::invalid, "--apply needs -o OUTPUT");
  options.advise.purpose = *purpose;
  options.advise.measure_speed = !options.no_speed;
  const std::string given = options.advise.source;
  NIBBLE_TRY(options.advise.source, resolve_source(given, {.weights = false}, progress));
  NIBBLE_TRY(const Machine machine, probe_machine(options.threads));
  NIBBLE_TRY(Advice advice, advise(options.advise, machine, progress));
  advice.source = given;
  if (options.json)
    fmt::print("{}\n", advice_json(advice));
  else
    print(advice);
  std::fflush(stdout);
  if (options.apply) NIBBLE_DO(apply(options, advice, progress));
  return advice;
}

}  // namespace

Run add_advise(CLI::App& app) {
  app.description(
      "Which level of a model for this machine: sizes, memory, speed and quality of each.");
  const auto options = std::make_shared<Options>();
  AdviseOptions& a = options->advise;
  app.add_option("SRC", a.source,
                 "GGUF file, Hugging Face directory, a config.json alone, or org/name, of which no "
                 "weights are downloaded")
      ->required();
  add_bytes(app, "--ram", a.memory_bytes,
            "memory of the machine it is for (16GiB), of which a tenth is left to the system; "
            "default: what is free on this one");
  app.add_option("--ctx", a.context, "Context in tokens that must fit")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  add_cache(app, a.cache);
  app.add_option("--for", options->purpose, "What it is for: chat, code, math or speed")
      ->capture_default_str();
  app.add_option("--levels", a.levels, "Levels to look at (Q4_K_M,IQ3_S,...); default: the usual")
      ->delimiter(',');
  app.add_option("--eval", a.evaluations,
                 "What nibble eval --ref or nibble compare measured of this model, as --json")
      ->allow_extra_args(false)
      ->take_all();
  app.add_flag("--no-speed", options->no_speed, "Do not measure speed, which takes some seconds");
  add_threads(app, options->threads);
  app.add_flag("--apply", options->apply, "Quantize to the recommendation");
  app.add_option("-o,--output", options->quantize.output, "With --apply: the GGUF file to write");
  app.add_option("--calib", options->quantize.calibration,
                 "With --apply: text or importance matrix, as for nibble quantize");
  app.add_flag("--fast", options->quantize.fast, "With --apply: as for nibble quantize");
  app.add_flag("--force", options->quantize.force, "With --apply: replace an existing output");
  app.add_flag("--json", options->json, "Print one JSON object");
  app.footer(
      "Examples:\n"
      "  nibble advise ./SmolLM2-135M\n"
      "  nibble advise ./Mistral-7B/config.json --ram 16GiB --ctx 8192 --for code\n"
      "  nibble eval Q4_K_M.gguf Q8_0.gguf --ref ./model --text held_out.txt --json > own.json\n"
      "  nibble advise ./model --eval own.json --apply -o small.gguf");
  return [options] {
    const auto advice = run(*options);
    return advice ? kExitOk : report(advice.error());
  };
}

}  // namespace nibble::cli
