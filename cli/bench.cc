// nibble bench: how fast a model runs here.
#include <fmt/format.h>
#include <fmt/ranges.h>

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

nlohmann::ordered_json joules(const MeasuredRate& rate) {
  if (rate.joules_per_token) return *rate.joules_per_token;
  return nullptr;
}

nlohmann::ordered_json speculation(const BenchmarkReport& r) {
  if (!r.speculation) return nullptr;
  return {{"plain_tokens_per_second", r.speculation->plain.tokens_per_second},
          {"tokens_per_second", r.speculation->speculative.tokens_per_second},
          {"tokens", r.speculation->tokens},
          {"guessed_tokens", r.speculation->guessed},
          {"right_guesses", r.speculation->right}};
}

int print_as_json(const BenchmarkReport& r, const Options& options) {
  nlohmann::ordered_json decodes = nlohmann::ordered_json::array();
  for (const MeasuredDecode& d : r.decodes)
    decodes.push_back({{"sequences", d.sequences},
                       {"context", d.context},
                       {"tokens_per_second", d.rate.tokens_per_second},
                       {"joules_per_token", joules(d.rate)},
                       {"rounds", d.rate.rounds}});
  return print_json({{"model", options.bench.model},
                     {"isa", r.isa},
                     {"cache", r.cache},
                     {"cache_token_bytes", r.cache_token_bytes},
                     {"threads", r.threads},
                     {"file_bytes", r.file_bytes},
                     {"weight_bytes", r.weight_bytes},
                     {"read_bytes", r.read_bytes},
                     {"products", r.products},
                     {"machine",
                      {{"bytes_per_second", r.machine.bytes_per_second},
                       {"int8_operations_per_second", r.machine.int8_operations_per_second},
                       {"bf16_operations_per_second", r.machine.bf16_operations_per_second}}},
                     {"energy_counters", r.energy_domains},
                     {"no_energy_counter", r.no_energy},
                     {"load_seconds", r.load_seconds},
                     {"first_token_seconds", r.first_token_seconds},
                     {"prompt_tokens", options.bench.prompt_tokens},
                     {"generated_tokens", options.bench.generated_tokens},
                     {"prefill_tokens_per_second", r.prefill.tokens_per_second},
                     {"prefill_joules_per_token", joules(r.prefill)},
                     {"decode_tokens_per_second", r.decode.tokens_per_second},
                     {"decode_joules_per_token", joules(r.decode)},
                     {"speculation", speculation(r)},
                     {"prefill_rounds", r.prefill.rounds},
                     {"decode_rounds", r.decode.rounds},
                     {"decodes", decodes}});
}

void print_rate(const char* what, const MeasuredRate& rate, const std::string& how) {
  const std::string energy =
      rate.joules_per_token ? fmt::format(", {:.3g} J a token", *rate.joules_per_token) : "";
  fmt::print("{:<12} {:.1f} tokens/s{} ({})\n", what, rate.tokens_per_second, energy, how);
}

int print(const BenchmarkReport& r, const Options& options) {
  if (options.json) return print_as_json(r, options);
  fmt::print("{:<12} {} threads, {}, weights {} in memory, loaded in {}\n", r.isa, r.threads,
             human_bytes(r.file_bytes), human_bytes(r.weight_bytes), human_seconds(r.load_seconds));
  const std::uint32_t generated = options.bench.generated_tokens;
  print_rate("prefill", r.prefill, fmt::format("{} tokens", options.bench.prompt_tokens));
  print_rate("decode", r.decode, fmt::format("{} tokens", generated));
  for (const MeasuredDecode& d : r.decodes)
    print_rate("decode", d.rate,
               fmt::format("{} sequences together, {} tokens each behind {}", d.sequences,
                           generated, d.context));
  if (const auto& s = r.speculation) {
    print_rate("text", s->plain, fmt::format("{} tokens of an answer", s->tokens));
    print_rate("  guessed", s->speculative,
               fmt::format("{} of {} guesses right", s->right, s->guessed));
  }
  fmt::print("cache        {}, {} a token of a sequence\n", r.cache,
             human_bytes(r.cache_token_bytes));
  fmt::print("first token  {}\n", human_seconds(r.first_token_seconds));
  if (r.energy_domains.empty())
    fmt::print("energy       not measured: {}\n", r.no_energy);
  else
    fmt::print("energy       of {}\n", fmt::join(r.energy_domains, ", "));
  fmt::print(
      "limits       memory is read at {}/s, {:.0f}% of it by decode; 8-bit products reach {:.0f} "
      "Gop/s, {:.0f}% of it in prefill; products of bf16 {:.0f} Gop/s\n",
      human_bytes(std::uint64_t(r.machine.bytes_per_second)),
      100 * r.decode.tokens_per_second * double(r.read_bytes) / r.machine.bytes_per_second,
      r.machine.int8_operations_per_second * 1e-9,
      100 * r.prefill.tokens_per_second * double(r.products) / r.machine.int8_operations_per_second,
      r.machine.bf16_operations_per_second * 1e-9);
  return kExitOk;
}

}  // namespace

Run add_bench(CLI::App& app) {
  app.description(
      "Measure speed of a model on this machine: prompts and answers, alone, together and behind "
      "long texts; time to load, energy.");
  const auto options = std::make_shared<Options>();
  BenchmarkOptions& bench = options->bench;
  app.add_option("model", bench.model, "GGUF file, Hugging Face directory or org/name")->required();
  app.add_option("-p,--prompt", bench.prompt_tokens, "Tokens of the prompt")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("-n,--tokens", bench.generated_tokens, "Tokens to generate")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--batch", bench.batches,
                 "Also decode so many sequences together (1,16,...); tokens/s are of all of them")
      ->delimiter(',')
      ->check(CLI::Range(1, 512))
      ->capture_default_str();
  app.add_option("--ctx", bench.contexts,
                 "Also decode with so many tokens in the cache of each sequence (512,8192,...)")
      ->delimiter(',')
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  const auto text = app.add_option("--text", bench.text,
                                   "Also answer the beginning of this text, plainly and with "
                                   "guesses from what came before");
  app.add_option("--draft", bench.draft, "With --text: a smaller model that guesses instead")
      ->needs(text);
  app.add_option("-r,--rounds", bench.rounds, "Rounds; medians are reported")
      ->capture_default_str();
  add_threads(app, bench.threads);
  app.add_flag("--exact", bench.exact,
               "Keep activations in float32 instead of rounding them to 8 bits");
  add_cache(app, bench.cache);
  add_packed(app, bench.packed);
  app.add_flag("--json", options->json, "Print one JSON object");
  app.footer(
      "Examples:\n"
      "  nibble bench model.gguf\n"
      "  nibble bench model.gguf -p 2048 -n 64 --threads 2 --json\n"
      "  nibble bench model.gguf --batch 1,4,16 -n 32\n"
      "  nibble bench Q8_0.gguf --text notes.txt --draft Q2_K.gguf\n"
      "  nibble bench model.gguf --ctx 512,2048,8192 -n 32 --cache q8_0");
  return [options] {
    ConsoleProgress progress;
    for (std::string* model : {&options->bench.model, &options->bench.draft}) {
      if (model->empty()) continue;
      auto path = resolve_source(*model, {}, progress);
      if (!path) return report(path.error());
      *model = *path;
    }
    const auto result = benchmark(options->bench, progress);
    return result ? print(*result, *options) : report(result.error());
  };
}

}  // namespace nibble::cli
