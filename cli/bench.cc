// nibble bench: how fast a model runs here.
#include <fmt/format.h>

#include <memory>

#include "cli/command.h"
#include "container/hub.h"
#include "nibble/benchmark.h"

namespace nibble::cli {
namespace {

struct Options {
  BenchmarkOptions bench;
  bool json = false;
};

int print(const BenchmarkReport& r, const Options& options) {
  if (options.json)
    return print_json({{"model", options.bench.model},
                       {"isa", r.isa},
                       {"threads", r.threads},
                       {"file_bytes", r.file_bytes},
                       {"weight_bytes", r.weight_bytes},
                       {"read_bytes", r.read_bytes},
                       {"products", r.products},
                       {"machine",
                        {{"bytes_per_second", r.machine.bytes_per_second},
                         {"int8_operations_per_second", r.machine.int8_operations_per_second}}},
                       {"load_seconds", r.load_seconds},
                       {"first_token_seconds", r.first_token_seconds},
                       {"prompt_tokens", options.bench.prompt_tokens},
                       {"generated_tokens", options.bench.generated_tokens},
                       {"prefill_tokens_per_second", r.prefill_tokens_per_second},
                       {"decode_tokens_per_second", r.decode_tokens_per_second},
                       {"prefill_rounds", r.prefill_rounds},
                       {"decode_rounds", r.decode_rounds}});
  fmt::print("{:<12} {} threads, {}, weights {} in memory, loaded in {}\n", r.isa, r.threads,
             human_bytes(r.file_bytes), human_bytes(r.weight_bytes), human_seconds(r.load_seconds));
  fmt::print("prefill      {:.1f} tokens/s ({} tokens)\n", r.prefill_tokens_per_second,
             options.bench.prompt_tokens);
  fmt::print("decode       {:.1f} tokens/s ({} tokens)\n", r.decode_tokens_per_second,
             options.bench.generated_tokens);
  fmt::print("first token  {}\n", human_seconds(r.first_token_seconds));
  fmt::print(
      "limits       memory is read at {}/s, {:.0f}% of it by decode; 8-bit products reach {:.0f} "
      "Gop/s, {:.0f}% of it in prefill\n",
      human_bytes(std::uint64_t(r.machine.bytes_per_second)),
      100 * r.decode_tokens_per_second * double(r.read_bytes) / r.machine.bytes_per_second,
      r.machine.int8_operations_per_second * 1e-9,
      100 * r.prefill_tokens_per_second * double(r.products) /
          r.machine.int8_operations_per_second);
  return kExitOk;
}

}  // namespace

Run add_bench(CLI::App& app) {
  app.description("Measure prompt and generation speed of a model on this machine.");
  const auto options = std::make_shared<Options>();
  BenchmarkOptions& bench = options->bench;
  app.add_option("model", bench.model, "GGUF file, Hugging Face directory or org/name")->required();
  app.add_option("-p,--prompt", bench.prompt_tokens, "Tokens of the prompt")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("-n,--tokens", bench.generated_tokens, "Tokens to generate")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("-r,--rounds", bench.rounds, "Rounds; medians are reported")
      ->capture_default_str();
  add_threads(app, bench.threads);
  app.add_flag("--exact", bench.exact,
               "Keep activations in float32 instead of rounding them to 8 bits");
  app.add_flag("--json", options->json, "Print one JSON object");
  app.footer(
      "Examples:\n  nibble bench model.gguf\n  nibble bench model.gguf -p 2048 -n 64 --threads 2 "
      "--json");
  return [options] {
    ConsoleProgress progress;
    auto path = resolve_source(options->bench.model, {}, progress);
    if (!path) return report(path.error());
    options->bench.model = *path;
    const auto result = benchmark(options->bench, progress);
    return result ? print(*result, *options) : report(result.error());
  };
}

}  // namespace nibble::cli
