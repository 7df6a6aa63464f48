// nibble calibrate: the importance of every input column.
#include "nibble/calibrate.h"

#include <fmt/format.h>

#include <memory>

#include "cli/command.h"
#include "container/hub.h"

namespace nibble::cli {
namespace {

int print(const CalibrationReport& r, const CalibrateOptions& options, bool json) {
  if (json)
    return print_json({{"output", options.output},
                       {"dataset", r.dataset},
                       {"dataset_sha256", r.dataset_sha256},
                       {"windows", r.windows},
                       {"tokens", r.tokens},
                       {"matrices", r.matrices},
                       {"seconds", r.seconds}});
  fmt::print("{}: importance of {} matrices from {} tokens ({}) in {}\n", options.output,
             r.matrices, r.tokens, r.dataset, human_seconds(r.seconds));
  return kExitOk;
}

}  // namespace

Run add_calibrate(CLI::App& app) {
  app.description("Run a model over a text and write the importance of its weights (an imatrix).");
  const auto options = std::make_shared<CalibrateOptions>();
  const auto json = std::make_shared<bool>(false);
  app.add_option("model", options->model, "GGUF file, Hugging Face directory or org/name")
      ->required();
  app.add_option("-o,--output", options->output, "GGUF imatrix to write")->required();
  app.add_option(
      "--text", options->text,
      "UTF-8 text, or .jsonl of {\"messages\": [...]}; without it the model writes its own");
  app.add_option("--ctx", options->context, "Tokens a window")
      ->check(CLI::Range(8, 1 << 20))
      ->capture_default_str();
  app.add_option("--chunks", options->chunks,
                 "Windows at most; 0: the whole text, or 16 of the model's own")
      ->capture_default_str();
  app.add_option("--seed", options->seed, "Seed of self-written text")->capture_default_str();
  add_threads(app, options->threads);
  app.add_flag("--force", options->overwrite, "Replace an existing output");
  app.add_flag("--json", *json, "Print one JSON object");
  app.footer(
      "Examples:\n"
      "  nibble calibrate ./SmolLM2 -o smol.imatrix.gguf --text train.txt --chunks 128\n"
      "  nibble calibrate ./SmolLM2 -o smol.imatrix.gguf --text chats.jsonl\n"
      "  nibble calibrate ./SmolLM2 -o smol.imatrix.gguf");
  return [options, json] {
    ConsoleProgress progress;
    auto path = resolve_source(options->model, {}, progress);
    if (!path) return report(path.error());
    options->model = *path;
    const auto result = calibrate(*options, progress);
    return result ? print(*result, *options, *json) : report(result.error());
  };
}

}  // namespace nibble::cli
