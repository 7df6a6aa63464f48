#include <fmt/format.h>

#include <span>
#include <string_view>

#include "base/hash.h"
#include "serve/nibble.h"
#include "serve/page_bytes.h"

namespace nibble {
namespace {

std::string sha256(std::string_view text) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(text)));
  return hash.hex();
}

int digit(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

/// 'sha256-...', for what stands between `begin` and `end`, which the page has once.
std::string source_of(std::string_view page, std::string_view begin, std::string_view end) {
  const std::size_t first = page.find(begin) + begin.size(), last = page.find(end, first);
  const std::string hex = sha256(page.substr(first, last - first));
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    bytes += char(digit(hex[i]) * 16 + digit(hex[i + 1]));
  return fmt::format("'sha256-{}'", base64(bytes));
}

struct Page {
  std::string_view text{reinterpret_cast<const char*>(kPageBytes), sizeof kPageBytes};
  std::string tag = fmt::format("\"{:.16}\"", sha256(text));
  std::string policy = fmt::format(
      "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; "
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
      "require-trusted-types-for 'script'; trusted-types 'none'",
      source_of(text, "<script type=\"module\">", "</script>"),
      source_of(text, "<style>", "</style>"));
};

}  // namespace

ServerReply nibble_page(const ServerRequest& http) {
  static const Page page;
  ServerReply reply{.type = "text/html; charset=utf-8"};
  reply.headers = {{"Cache-Control", "no-cache"},  // keep it, and ask whether it has changed
                   {"ETag", page.tag},
                   {"Content-Security-Policy", page.policy},
                   {"Cross-Origin-Opener-Policy", "same-origin"},
                   {"Referrer-Policy", "no-referrer"},
                   {"X-Content-Type-Options", "nosniff"}};
  if (http.if_none_match.find(page.tag) != std::string::npos)
    reply.status = 304;
  else
    reply.body = page.text;
  return reply;
}

}  // namespace nibble
