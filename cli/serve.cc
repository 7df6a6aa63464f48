// nibble serve: models behind HTTP.
#include "nibble/serve.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <thread>

#include "cli/command.h"

namespace nibble::cli {
namespace {

struct Options {
  ServeOptions serve;
  std::vector<std::string> models, names;
};

/// "dir/SmolLM2-Q4_K_M.gguf" is served as "SmolLM2-Q4_K_M".
std::string plain_name(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const auto file = std::filesystem::path(path).filename();
  const std::string name = file.extension() == ".gguf" ? file.stem().string() : file.string();
  return name.empty() || name == "." ? "model" : name;
}

Result<std::vector<ServeOptions::Named>> named_models(const Options& options) {
  std::vector<ServeOptions::Named> out;
  for (const std::string& path : options.models) out.push_back({plain_name(path), path});
  for (const std::string& pair : options.names) {
    const std::size_t equals = pair.find('=');
    if (equals == 0 || equals >= pair.size() - 1)
      return tl::unexpected(Error(ErrorCode::invalid, "--name " + pair + ": expected NAME=PATH"));
    out.push_back({pair.substr(0, equals), pair.substr(equals + 1)});
  }
  if (out.empty()) return tl::unexpected(Error(ErrorCode::invalid, "no model to serve"));
  return out;
}

/// Until a signal; then what is under way is finished. A second signal kills.
int serve(Options& options, Progress& progress) {
  using namespace std::chrono_literals;
  auto models = named_models(options);
  if (!models) return report(models.error());
  options.serve.models = std::move(*models);
  const auto server = Server::start(options.serve, progress);
  if (!server) return report(server.error());
  fmt::print("http://{}:{}\n", options.serve.host, (*server)->port());
  std::fflush(stdout);
  while (!interrupted()) std::this_thread::sleep_for(50ms);
  (*server)->drain();
  fmt::print(stderr, "finishing what is under way; a second signal ends at once\n");
  while (!(*server)->idle()) std::this_thread::sleep_for(20ms);
  return kExitOk;
}

}  // namespace

Run add_serve(CLI::App& app) {
  app.description("Serve models through the HTTP APIs of OpenAI and Ollama.");
  const auto options = std::make_shared<Options>();
  ServeOptions& s = options->serve;
  app.add_option("models", options->models, "GGUF files, Hugging Face directories or org/name");
  app.add_option("--name", options->names, "NAME=PATH: another model, under that name");
  app.add_option("--host", s.host, "Address to listen on")->capture_default_str();
  app.add_option("--port", s.port, "Port; 0: any that is free")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_option("--parallel", s.parallel, "Sequences that a model advances together")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--queue", s.queue, "Requests that wait for a model; more get 503")
      ->check(CLI::Range(0, 100000))
      ->capture_default_str();
  app.add_option("--ctx", s.context, "Context of a sequence in tokens")
      ->check(CLI::Range(8, 1 << 24))
      ->capture_default_str();
  add_bytes(
      app, "--memory", s.memory,
      "Cap on weights and caches of loaded models; others are unloaded, the longest unused first");
  app.add_option("--api-key", s.api_key, "Key that requests must carry")->envname("NIBBLE_API_KEY");
  app.add_option("--allow-host", s.allowed_hosts,
                 "Another name of this server, for a proxy on this machine (without a key)");
  app.add_option("--timeout", s.request_seconds, "Seconds that a request may take")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  add_bytes(app, "--max-body", s.body, "Largest body of a request");
  add_threads(app, s.threads);
  app.add_flag("--exact", s.exact,
               "Keep activations in float32 instead of rounding them to 8 bits");
  add_cache(app, s.cache);
  add_packed(app, s.packed);
  app.add_flag("--lookup", s.lookup,
               "Guess tokens from what followed the last ones before, and check them together: the "
               "same answers, sooner where they repeat their prompts");
  app.footer(
      "Examples:\n"
      "  nibble serve model.gguf\n"
      "  nibble serve --name small=q4.gguf --name big=q8.gguf --memory 8GiB --port 8000\n"
      "  nibble serve model.gguf --parallel 16 --ctx 16384 --cache q8_0\n"
      "  NIBBLE_API_KEY=secret nibble serve model.gguf --host 0.0.0.0 --parallel 16\n"
      "  curl http://127.0.0.1:8080/v1/chat/completions -d '{\"messages\": [{\"role\": \"user\", "
      "\"content\": \"Hi\"}]}'");
  return [options] {
    ConsoleProgress progress;
    return serve(*options, progress);
  };
}

}  // namespace nibble::cli
