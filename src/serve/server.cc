#include <openssl/crypto.h>

#include <algorithm>
#include <atomic>

#include "base/utf8.h"
#include "container/hub.h"
#include "nibble/serve.h"
#include "nibble/version.h"
#include "serve/metrics.h"
#include "serve/nibble.h"
#include "serve/ollama.h"
#include "serve/openai.h"

namespace nibble {
namespace {

/// Takes as long for a key that begins right as for one that does not; the length may show.
bool same_secret(const std::string& a, const std::string& b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

bool takes_work(const ServerRequest& request) { return request.method == "POST"; }

bool is_loopback(std::string_view host) {
  const bool numbers = host.find_first_not_of("0123456789.") == host.npos;
  return host == "localhost" || host == "::1" || (numbers && host.starts_with("127."));
}

/// "[::1]:8080" is "::1".
std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
  return host.substr(0, host.find(':'));
}

}  // namespace

struct Server::State {
  State(const ServeOptions& o, const ModelsOptions& m, Progress& progress)
      : options(o),
        limits{.request = std::chrono::seconds(o.request_seconds)},
        models(m, progress) {}

  const ServeOptions options;
  const ApiLimits limits;
  ModelTable models;
  std::atomic<bool> draining = false;
  std::unique_ptr<HttpServer> http;

  bool may_ask(const ServerRequest& request) const;
  ServerReply route(const ServerRequest& request);
  ServerReply answer(const ServerRequest& request);
};

/// By the name that the client knows this server by; programs may leave it out, browsers do not.
bool Server::State::may_ask(const ServerRequest& request) const {
  if (!options.api_key.empty() || !is_loopback(options.host) || request.host.empty()) return true;
  const std::string_view name = without_port(request.host);
  return is_loopback(name) ||
         std::ranges::find(options.allowed_hosts, name) != options.allowed_hosts.end();
}

ServerReply Server::State::route(const ServerRequest& request) {
  const std::string& path = request.path;
  const bool get = request.method == "GET", post = request.method == "POST";
  if (get && path == "/v1/models") return openai_models(models);
  if (post && path == "/v1/chat/completions") return openai_chat(models, limits, request);
  if (post && path == "/v1/completions") return openai_completions(models, limits, request);
  if (post && path == "/v1/embeddings") return openai_embeddings(models, limits, request);
  if (get && path == "/api/version") return json_reply({{"version", version()}});
  if (get && path == "/api/tags") return ollama_tags(models);
  if (get && path == "/api/ps") return ollama_ps(models);
  if (post && path == "/api/show") return ollama_show(models, request);
  if (post && path == "/api/generate") return ollama_generate(models, limits, request);
  if (post && path == "/api/chat") return ollama_chat(models, limits, request);
  if (post && path == "/api/embed") return ollama_embed(models, limits, request, false);
  if (post && path == "/api/embeddings") return ollama_embed(models, limits, request, true);
  if (get && path == "/nibble/status") return nibble_status(models);
  if (post && path == "/nibble/advise") return nibble_advise(models, request);
  if (post && path == "/nibble/compare") return nibble_compare(models, limits, request);
  return error_reply(404, "there is no " + request.method + " " + path, "invalid_request_error");
}

ServerReply Server::State::answer(const ServerRequest& request) {
  if (request.path == "/health") return json_reply({{"status", "ok"}});
  if (request.path == "/" && !takes_work(request)) return nibble_page(request);
  if (request.path == "/ready" && !draining) return json_reply({{"status", "ready"}});
  if (!may_ask(request))
    return error_reply(403, "this server is not known by that name; --allow-host gives it one",
                       "permission_error");
  const std::string key = "Bearer " + options.api_key;
  if (!options.api_key.empty() && !same_secret(request.authorization, key))
    return error_reply(401, "the API key is missing or wrong", "authentication_error");
  if (request.path == "/metrics")
    return {.type = "text/plain; version=0.0.4", .body = metrics_text(models)};
  if (draining) return error_reply(503, "the server is about to end", "server_error");
  if (takes_work(request) && !is_utf8(request.body))
    return error_reply(400, "the body of the request is not UTF-8", "invalid_request_error");
  return route(request);
}

Result<std::unique_ptr<Server>> Server::start(const ServeOptions& options, Progress& progress) {
  if (options.models.empty()) return fail(ErrorCode::invalid, "no model to serve");
  if (options.parallel < 1 || options.parallel > 256)
    return fail(ErrorCode::invalid, "{} sequences at once: expected 1 to 256", options.parallel);
  const ModelsOptions models{.threads = options.threads,
                             .exact = options.exact,
                             .cache = options.cache,
                             .packed = options.packed,
                             .context = options.context,
                             .memory = options.memory,
                             .scheduler = {.parallel = options.parallel,
                                           .queue = options.queue,
                                           .context = 0,
                                           .lookup = options.lookup}};
  auto state = std::make_unique<State>(options, models, progress);
  for (const auto& [name, path] : options.models) {
    NIBBLE_TRY(const std::string found, resolve_source(path, {}, progress));
    NIBBLE_DO(state->models.add(name, found));
  }
  NIBBLE_TRY([[maybe_unused]] const auto first, state->models.get(state->models.first()));
  State* self = state.get();
  NIBBLE_TRY(state->http, HttpServer::start(options.host, options.port, {.body = options.body},
                                            [self](const ServerRequest& request) {
                                              return self->answer(request);
                                            }));
  return std::unique_ptr<Server>(new Server(std::move(state)));
}

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}
Server::~Server() = default;

int Server::port() const { return state_->http->port(); }
void Server::drain() { state_->draining = true; }
bool Server::idle() const { return state_->models.idle() && state_->http->under_way() == 0; }

}  // namespace nibble
