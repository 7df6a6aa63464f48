// Downloading one file of a hub: in pieces that survive an interruption, checked before it counts.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "container/http.h"
#include "container/hub_listing.h"
#include "nibble/progress.h"

namespace nibble {

/// GET with further attempts when the network or the server fails for a moment. `request.from` is
/// asked before each. Any status that is not success is an error that says what to do.
Result<HttpReply> http_get_patiently(HttpRequest request, const HttpSink& sink,
                                     const std::function<std::uint64_t()>& from,
                                     const Progress& progress);

/// Downloads `url` to `target`. Its bytes gather in `<target>.part`, which stays when the network
/// fails and is continued by the next call. `done` counts finished bytes over several files.
Status download_file(const std::string& url, const std::string& token, const RemoteFile& file,
                     const std::string& target, std::uint64_t done, Progress& progress);

}  // namespace nibble
