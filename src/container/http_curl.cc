#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <string_view>

#include "container/http.h"

namespace nibble {
namespace {

constexpr long kMaxRedirects = 5;
constexpr long kConnectSeconds = 30;
constexpr long kStalledSeconds = 60;  // without a byte
constexpr std::uint64_t kErrorBody = 1 << 20;

struct Transfer {
  CURL* curl = nullptr;
  const HttpRequest* request = nullptr;
  const HttpSink* sink = nullptr;
  const Progress* progress = nullptr;
  HttpReply reply;
  std::uint64_t offset = 0;   // of the next byte of the body
  std::uint64_t ignored = 0;  // bytes of error pages
  std::optional<Error> error;
  bool linked = false;  // etag came from x-linked-etag

  int status() const {
    long code = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    return int(code);
  }
};

char lower(char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; }

/// The value of header `name` (lower case) if `line` is that one.
std::optional<std::string_view> header_value(std::string_view line, std::string_view name) {
  if (line.size() <= name.size() || line[name.size()] != ':') return std::nullopt;
  for (std::size_t i = 0; i < name.size(); ++i)
    if (lower(line[i]) != name[i]) return std::nullopt;
  line.remove_prefix(name.size() + 1);
  const auto first = line.find_first_not_of(" \t"), last = line.find_last_not_of(" \t\r\n");
  return first == line.npos ? std::string_view() : line.substr(first, last - first + 1);
}

std::string unquote(std::string_view etag) {
  if (etag.starts_with("W/")) etag.remove_prefix(2);
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"')
    etag = etag.substr(1, etag.size() - 2);
  return std::string(etag);
}

std::size_t on_header(char* data, std::size_t, std::size_t size, void* user) {
  Transfer& transfer = *static_cast<Transfer*>(user);
  const std::string_view line(data, size);
  if (line.starts_with("HTTP/")) {
    transfer.offset = 0;
  } else if (const auto linked = header_value(line, "x-linked-etag")) {
    transfer.reply.etag = unquote(*linked);
    transfer.linked = true;
  } else if (const auto etag = header_value(line, "etag"); etag && !transfer.linked) {
    transfer.reply.etag = unquote(*etag);
  } else if (const auto range = header_value(line, "content-range")) {
    const std::string_view digits = range->starts_with("bytes ") ? range->substr(6) : "";
    std::from_chars(digits.data(), digits.data() + digits.size(), transfer.offset);
  }
  return size;
}

std::size_t on_body(char* data, std::size_t, std::size_t size, void* user) {
  Transfer& transfer = *static_cast<Transfer*>(user);
  const int status = transfer.status();
  if (status != 200 && status != 206) {
    transfer.ignored += size;
    return transfer.ignored > kErrorBody ? 0 : size;
  }
  if (status == 200) transfer.offset = transfer.reply.status == 200 ? transfer.offset : 0;
  transfer.reply.status = status;
  if (size > transfer.request->limit || transfer.offset > transfer.request->limit - size) {
    transfer.error =
        Error(ErrorCode::corrupt, fmt::format("{}: more than the {} bytes expected",
                                              transfer.request->url, transfer.request->limit));
    return 0;
  }
  const auto bytes = std::as_bytes(std::span(data, size));
  if (auto stored = (*transfer.sink)(transfer.offset, bytes); !stored) {
    transfer.error = stored.error();
    return 0;
  }
  transfer.offset += size;
  return size;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<Transfer*>(user)->progress->cancelled() ? 1 : 0;
}

void set_options(CURL* curl, Transfer& transfer, const curl_slist* headers) {
  const HttpRequest& request = *transfer.request;
  // A secure address is never left for an insecure one.
  const char* protocols = request.url.starts_with("https:") ? "https" : "http,https";
  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, protocols);
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, kMaxRedirects);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, kStalledSeconds);
  curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 256L * 1024);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "nibble");
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  if (request.from > 0)
    curl_easy_setopt(curl, CURLOPT_RANGE, fmt::format("{}-", request.from).c_str());
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
}

}  // namespace

Result<HttpReply> http_get(const HttpRequest& request, const HttpSink& sink,
                           const Progress& progress) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(),
                                                                 curl_easy_cleanup);
  if (ready != CURLE_OK || !curl) return fail(ErrorCode::io, "the network library does not start");
  curl_slist* list = nullptr;  // libcurl keeps this header from other hosts
  if (!request.token.empty())
    list = curl_slist_append(list, ("Authorization: Bearer " + request.token).c_str());
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(list,
                                                                            curl_slist_free_all);
  Transfer transfer;
  transfer.curl = curl.get();
  transfer.request = &request;
  transfer.sink = &sink;
  transfer.progress = &progress;
  set_options(curl.get(), transfer, headers.get());
  const CURLcode code = curl_easy_perform(curl.get());
  transfer.reply.status = transfer.status();
  if (transfer.error) return tl::unexpected<Error>(*transfer.error);
  if (progress.cancelled()) return fail(ErrorCode::cancelled, "{}: cancelled", request.url);
  if (code == CURLE_TOO_MANY_REDIRECTS || code == CURLE_UNSUPPORTED_PROTOCOL ||
      code == CURLE_URL_MALFORMAT)
    return fail(ErrorCode::io, "{}: {}", request.url, curl_easy_strerror(code));
  if (code != CURLE_OK) transfer.reply.failure = curl_easy_strerror(code);
  return transfer.reply;
}

}  // namespace nibble
