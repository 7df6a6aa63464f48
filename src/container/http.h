// One HTTP GET, for the hub client. http_curl.cc has it; http_none.cc is for builds without
// libcurl.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/result.h"
#include "nibble/progress.h"

namespace nibble {

struct HttpRequest {
  std::string url;
  std::string token;        // sent as a bearer token to the URL's own host only; may be empty
  std::uint64_t from = 0;   // first byte wanted
  std::uint64_t limit = 0;  // more bytes in all are an error
};

struct HttpReply {
  int status = 0;       // of the last response, after redirects; 0: none came
  std::string failure;  // why the connection ended early; empty if it did not. Worth another try
  std::string etag;     // x-linked-etag (the hub's own hash of a large file), else etag; unquoted
};

/// Receives the body of a successful response piece by piece; `offset` is the place of the piece in
/// the whole resource (a server may answer from 0 although `from` was asked for).
using HttpSink = std::function<Status(std::uint64_t offset, std::span<const std::byte> bytes)>;

/// Errors are those that another try would not mend: from the sink, beyond the limit, too many
/// redirects, cancelled.
Result<HttpReply> http_get(const HttpRequest& request, const HttpSink& sink,
                           const Progress& progress);

}  // namespace nibble
