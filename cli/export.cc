// nibble export: a GGUF file for Ollama or LM Studio.
#include "nibble/export.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "base/file.h"
#include "base/result.h"
#include "cli/command.h"

namespace nibble::cli {
namespace {

constexpr std::uint64_t kLargestText = 1u << 20;

struct Options {
  OllamaOptions ollama;
  LmStudioOptions lm_studio;
  std::string license, template_file;
  bool json = false;
};

const char* how_text(ExportedFile::How how) {
  switch (how) {
    case ExportedFile::How::written:
      return "written";
    case ExportedFile::How::linked:
      return "linked";
    case ExportedFile::How::copied:
      return "copied";
    case ExportedFile::How::there_already:
      return "there already";
  }
  return "";
}

int print(const ExportReport& report, bool json) {
  if (json) {
    nlohmann::ordered_json out = {{"files", nlohmann::ordered_json::array()},
                                  {"stop", report.stop},
                                  {"template", report.template_text},
                                  {"notes", report.notes}};
    for (const ExportedFile& file : report.files)
      out["files"].push_back(
          {{"path", file.path}, {"bytes", file.bytes}, {"how", how_text(file.how)}});
    return print_json(out);
  }
  for (const ExportedFile& file : report.files)
    fmt::print("{:<14}{:>10}  {}\n", how_text(file.how), human_bytes(file.bytes), file.path);
  for (const std::string& note : report.notes) fmt::print("Note: {}\n", note);
  return kExitOk;
}

Result<ExportReport> run(Options& options, Progress& progress) {
  if (options.ollama.name.empty() == options.lm_studio.store.empty())
    return fail(ErrorCode::invalid, "say where to: --ollama NAME or --lmstudio DIR");
  if (!options.lm_studio.store.empty()) {
    options.lm_studio.model = options.ollama.model;
    options.lm_studio.force = options.ollama.force;
    return export_lm_studio(options.lm_studio, progress);
  }
  OllamaOptions& ollama = options.ollama;
  if (!options.license.empty()) {
    NIBBLE_TRY(ollama.license, read_text(options.license, kLargestText));
  }
  if (!options.template_file.empty()) {
    NIBBLE_TRY(ollama.template_text, read_text(options.template_file, kLargestText));
  }
  if (ollama.store.empty() && ollama.modelfile.empty())
    ollama.modelfile = std::filesystem::path(ollama.model).replace_extension(".Modelfile").string();
  return export_ollama(ollama, progress);
}

}  // namespace

Run add_export(CLI::App& app) {
  app.description("Hand a GGUF file to Ollama or LM Studio.");
  const auto options = std::make_shared<Options>();
  OllamaOptions& ollama = options->ollama;
  app.add_option("FILE", ollama.model, "the GGUF file")->required();
  app.add_option("--ollama", ollama.name, "[OWNER/]NAME[:TAG] that Ollama is to know it by");
  app.add_option("--models", ollama.store,
                 "Ollama's directory of models (~/.ollama/models): the model is put there; without "
                 "it only a Modelfile is written, for ollama create");
  app.add_option(
      "-o,--output", ollama.modelfile,
      "the Modelfile to write; default without --models: FILE with the ending .Modelfile");
  app.add_option("--system", ollama.system, "system message that is there from the beginning");
  app.add_option("--license", options->license,
                 "file with the licence; default: what the GGUF says");
  app.add_option("--template", options->template_file,
                 "file with a template for Ollama, in place of a translation of the model's own");
  app.add_option("--ctx", ollama.context, "context in tokens, at most what the model was made for")
      ->check(CLI::Range(8, 1 << 24))
      ->capture_default_str();
  app.add_option("--lmstudio", options->lm_studio.store,
                 "LM Studio's directory of models (~/.lmstudio/models)");
  app.add_option("--publisher", options->lm_studio.publisher, "folder of the publisher there")
      ->capture_default_str();
  app.add_option("--name", options->lm_studio.name,
                 "folder of the model there; default: FILE's name");
  app.add_flag("--force", ollama.force, "replace what is there");
  app.add_flag("--json", options->json, "one JSON document on standard output");
  app.footer(
      "The file is hard-linked where the file system allows it, else copied; the output says "
      "which.\n"
      "Examples:\n"
      "  nibble export small.gguf --ollama small:q4 && ollama create small:q4 -f small.Modelfile\n"
      "  nibble export small.gguf --ollama small:q4 --models ~/.ollama/models\n"
      "  nibble export small.gguf --lmstudio ~/.lmstudio/models --publisher me");
  return [options] {
    ConsoleProgress progress;
    const auto result = run(*options, progress);
    return result ? print(*result, options->json) : report(result.error());
  };
}

}  // namespace nibble::cli
