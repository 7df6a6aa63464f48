#include "container/http.h"

namespace nibble {

Result<HttpReply> http_get(const HttpRequest& request, const HttpSink&, const Progress&) {
  return fail(ErrorCode::unsupported,
              "{}: this build of nibble has no network part (NIBBLE_HUB=OFF); give a local file",
              request.url);
}

}  // namespace nibble
