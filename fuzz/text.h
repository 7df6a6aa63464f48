// What the targets around text share.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "text/tokenizer.h"

namespace nibble {

/// The input cut at its first N - 1 zero bytes, which no part of it needs to hold.
template <std::size_t N>
std::array<std::string_view, N> parts(const std::uint8_t* data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::array<std::string_view, N> out;
  for (std::size_t i = 0; i < N; ++i) {
    const std::size_t end = i + 1 < N ? rest.find('\0') : rest.npos;
    out[i] = rest.substr(0, end);
    rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
  }
  return out;
}

/// What goes wrong is the input's fault, not ours.
template <class T>
bool good(const Result<T>& result) {
  NIBBLE_CHECK(result || result.error().code() != ErrorCode::internal);
  return result.has_value();
}

/// Encodes, decodes and streams in every way: ids lie in the vocabulary.
inline void exercise(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool special : {false, true}) {
    (void)good(tokenizer.encode(text, {.add_special = true, .parse_special = special}));
    const auto ids = tokenizer.encode(text, {.add_special = false, .parse_special = special});
    if (!good(ids)) continue;
    TextStream stream(tokenizer, true);
    for (const Token id : *ids) {
      NIBBLE_CHECK(id < tokenizer.vocab_size());
      (void)tokenizer.ends_generation(id);
      (void)stream.push(id);
    }
    (void)stream.finish();
    (void)good(tokenizer.decode(*ids, special));
  }
  if (tokenizer.has_chat_template())
    (void)good(tokenizer.render_chat(Json::array({{{"role", "user"}, {"content", "hi"}}}), true));
}

}  // namespace nibble
