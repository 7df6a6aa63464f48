#include "serve/http.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netdb.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/json.h"

namespace nibble {
namespace {

/// A request while it comes in.
struct Incoming {
  ServerRequest request;
  std::size_t received = 0;  // bytes of the body
};

/// A streamed body while it goes out.
struct Outgoing {
  std::function<std::optional<std::string>()> next;
  std::string piece = {};
  std::size_t sent = 0;
  MHD_Connection* connection;
  unsigned idle_seconds;
};

int socket_of(MHD_Connection* connection) {
  const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  return info ? info->connect_fd : -1;
}

/// Empty: the request has none.
std::string header(MHD_Connection* connection, const char* name) {
  const char* value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
  return value ? value : "";
}

/// A client that has shut down its side is taken for gone: there is nobody to answer.
bool is_closed(int socket) {
  char byte;
  const auto n = ::recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

/// The clock of idle connections does not run while an answer is made.
class Patience {
 public:
  Patience(MHD_Connection* connection, unsigned seconds)
      : connection_(connection), seconds_(seconds) {
    MHD_set_connection_option(connection_, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
  }
  ~Patience() { MHD_set_connection_option(connection_, MHD_CONNECTION_OPTION_TIMEOUT, seconds_); }
  Patience(const Patience&) = delete;
  Patience& operator=(const Patience&) = delete;

 private:
  MHD_Connection* connection_;
  unsigned seconds_;
};

ssize_t read_stream(void* closure, std::uint64_t, char* buffer, std::size_t size) {
  auto& out = *static_cast<Outgoing*>(closure);
  if (out.sent == out.piece.size()) {
    const Patience patience(out.connection, out.idle_seconds);
    auto piece = out.next();
    if (!piece) return MHD_CONTENT_READER_END_OF_STREAM;
    out.piece = std::move(*piece), out.sent = 0;
  }
  const std::size_t n = std::min(size, out.piece.size() - out.sent);
  std::memcpy(buffer, out.piece.data() + out.sent, n);
  out.sent += n;
  return ssize_t(n);
}

void end_stream(void* closure) { delete static_cast<Outgoing*>(closure); }

MHD_Response* make_response(MHD_Connection* connection, ServerReply& reply, unsigned idle_seconds) {
  MHD_Response* response = nullptr;
  if (reply.stream) {
    auto* out = new Outgoing{
        .next = std::move(reply.stream), .connection = connection, .idle_seconds = idle_seconds};
    response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, read_stream, out, end_stream);
  } else {
    response = MHD_create_response_from_buffer(reply.body.size(), reply.body.data(),
                                               MHD_RESPMEM_MUST_COPY);
  }
  MHD_add_response_header(response, "Content-Type", reply.type.c_str());
  for (const auto& [name, value] : reply.headers)
    MHD_add_response_header(response, name.c_str(), value.c_str());
  return response;
}

/// More connections than the usual 1024 files of a process.
void raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

struct HttpServer::State {
  HttpLimits limits;
  HttpHandler handler;
  MHD_Daemon* daemon = nullptr;
  std::atomic<int> under_way = 0;

  MHD_Result finish(MHD_Connection* connection, Incoming& incoming) {
    ServerReply reply;
    const int socket = socket_of(connection);
    incoming.request.is_gone = [socket] { return is_closed(socket); };
    {
      const Patience patience(connection, limits.idle_seconds);
      reply =
          incoming.received > limits.body
              ? error_reply(413, "the body of the request is too large", "invalid_request_error")
              : handler(incoming.request);
    }
    MHD_Response* response = make_response(connection, reply, limits.idle_seconds);
    const MHD_Result result = MHD_queue_response(connection, unsigned(reply.status), response);
    MHD_destroy_response(response);
    return result;
  }

  static MHD_Result answer(void* self, MHD_Connection* connection, const char* url,
                           const char* method, const char*, const char* data, std::size_t* size,
                           void** closure) {
    auto& state = *static_cast<State*>(self);
    if (!*closure) {
      auto* incoming = new Incoming;
      *closure = incoming;
      ++state.under_way;
      incoming->request.method = method, incoming->request.path = url;
      incoming->request.authorization = header(connection, "Authorization");
      incoming->request.if_none_match = header(connection, "If-None-Match");
      incoming->request.host = header(connection, "Host");
      return MHD_YES;
    }
    auto& incoming = *static_cast<Incoming*>(*closure);
    if (*size == 0) return state.finish(connection, incoming);
    // A body that is too large is read on for a polite answer, but not for ever.
    incoming.received += *size;
    if (incoming.received > 4 * state.limits.body) return MHD_NO;
    if (incoming.received <= state.limits.body) incoming.request.body.append(data, *size);
    *size = 0;
    return MHD_YES;
  }

  static void completed(void* self, MHD_Connection*, void** closure, MHD_RequestTerminationCode) {
    if (!*closure) return;
    --static_cast<State*>(self)->under_way;
    delete static_cast<Incoming*>(*closure);
    *closure = nullptr;
  }
};

Result<std::unique_ptr<HttpServer>> HttpServer::start(const std::string& host, int port,
                                                      const HttpLimits& limits,
                                                      HttpHandler handler) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM, hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  if (::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0)
    return fail(ErrorCode::invalid, "--host {}: no such address", host);
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, ::freeaddrinfo);
  raise_file_limit();
  auto state = std::make_unique<State>();
  state->limits = limits, state->handler = std::move(handler);
  const unsigned family = found->ai_family == AF_INET6 ? unsigned(MHD_USE_IPv6) : 0u;
  const unsigned flags =
      MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL | family;
  state->daemon = MHD_start_daemon(
      flags, std::uint16_t(port), nullptr, nullptr, &State::answer, state.get(),
      MHD_OPTION_SOCK_ADDR, found->ai_addr, MHD_OPTION_NOTIFY_COMPLETED, &State::completed,
      state.get(), MHD_OPTION_CONNECTION_MEMORY_LIMIT, limits.headers + 16384,
      MHD_OPTION_CONNECTION_LIMIT, limits.connections, MHD_OPTION_CONNECTION_TIMEOUT,
      limits.idle_seconds, MHD_OPTION_LISTEN_BACKLOG_SIZE, 1024u, MHD_OPTION_THREAD_STACK_SIZE,
      std::size_t(2) << 20, MHD_OPTION_END);
  if (!state->daemon)
    return fail(ErrorCode::io, "cannot listen on {} port {}: {}", host, port, std::strerror(errno));
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
HttpServer::~HttpServer() { MHD_stop_daemon(state_->daemon); }

int HttpServer::under_way() const { return state_->under_way; }

int HttpServer::port() const {
  const auto* info = MHD_get_daemon_info(state_->daemon, MHD_DAEMON_INFO_BIND_PORT);
  return info ? info->port : 0;
}

ServerReply error_reply(int status, const std::string& message, const std::string& type) {
  ServerReply reply{.status = status};
  const Json error = {{"message", message}, {"type", type}, {"param", nullptr}, {"code", nullptr}};
  reply.body = Json{{"error", error}}.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (status == 503) reply.headers.emplace_back("Retry-After", "1");
  return reply;
}

}  // namespace nibble
