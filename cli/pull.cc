// nibble pull: a model from a hub into the cache.
#include <fmt/format.h>

#include "cli/command.h"
#include "container/hub.h"

namespace nibble::cli {
namespace {

struct Options {
  std::string name, revision;
  HubOptions hub;
  bool json = false;
};

int run(const Options& options) {
  auto name = parse_hub_name(options.name);
  if (!name)
    return report(
        Error(ErrorCode::invalid, options.name + ": expected org/name[@revision][:file]"));
  if (!options.revision.empty()) name->revision = options.revision;
  ConsoleProgress progress;
  const auto path = pull(*name, options.hub, progress);
  if (!path) return report(path.error());
  if (options.json) return print_json({{"model", options.name}, {"path", *path}});
  fmt::print("{}\n", *path);
  return kExitOk;
}

}  // namespace

Run add_pull(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.description("Download a model from a Hugging Face hub and print where it lies.");
  app.add_option("name", options->name, "org/name[@revision][:file]")->required();
  app.add_option("--revision", options->revision, "branch, tag or commit (main)");
  app.add_option("--cache", options->hub.cache, "directory for models ($NIBBLE_CACHE)");
  app.add_flag("--json", options->json, "one JSON document on stdout");
  app.footer(
      "HF_ENDPOINT names another hub, HF_TOKEN gives access to restricted models.\n"
      "Examples:\n"
      "  nibble pull HuggingFaceTB/SmolLM2-135M-Instruct\n"
      "  nibble pull unsloth/SmolLM2-135M-Instruct-GGUF:Q4_K_M");
  return [options] { return run(*options); };
}

}  // namespace nibble::cli
