// HTTP for small JSON requests and streamed answers (libmicrohttpd, a thread for each connection).
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace nibble {

struct ServerRequest {
  std::string method, path, body;
  std::string authorization;      // that header, or empty
  std::string if_none_match;      // the same
  std::string host;               // the same
  std::function<bool()> is_gone;  // the client has closed the connection
};

struct ServerReply {
  int status = 200;
  std::string type = "application/json";
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
  /// Instead of a body: its pieces as they come, none at the end. Destroyed when the client is gone
  /// or has everything.
  std::function<std::optional<std::string>()> stream = {};
};

struct HttpLimits {
  std::size_t body = 8u << 20;  // bytes
  std::size_t headers = 32768;  // bytes, with the request line
  unsigned connections = 2048;  // more are closed at once
  unsigned idle_seconds = 30;   // for a client that neither reads nor writes
};

/// Called on many threads at once.
using HttpHandler = std::function<ServerReply(const ServerRequest&)>;

class HttpServer {
 public:
  /// `port` 0: any that is free. Errors: a host that is no address of this machine, a port in use.
  static Result<std::unique_ptr<HttpServer>> start(const std::string& host, int port,
                                                   const HttpLimits& limits, HttpHandler handler);
  ~HttpServer();  // closes connections; answers that are under way end early
  int port() const;
  /// Requests that have begun to come in and whose answers have not been sent to the end.
  int under_way() const;

 private:
  struct State;
  explicit HttpServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// The reply to what went wrong, in OpenAI's form.
ServerReply error_reply(int status, const std::string& message, const std::string& type);

}  // namespace nibble
