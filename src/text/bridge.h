// The C ABI of the Rust crate (rust/include/nibble_text.h) in C++ terms.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/grammar.h"

struct nibble_tokenizer;

namespace nibble {

/// A loaded tokenizer.json. Immutable; safe to use from many threads.
class BridgeTokenizer {
 public:
  static constexpr std::uint32_t kParseSpecial = 1, kAddSpecial = 2;

  static Result<BridgeTokenizer> load(std::string_view json);

  Result<std::vector<std::uint32_t>> encode(std::string_view text, std::uint32_t flags) const;
  Result<std::string> decode(std::span<const std::uint32_t> ids, bool skip_special) const;
  /// Empty for ids outside the vocabulary. `first`: nothing precedes it.
  std::string token_bytes(std::uint32_t id, bool first) const;
  std::string id_to_token(std::uint32_t id) const;
  std::optional<std::uint32_t> token_to_id(std::string_view token) const;
  /// The largest id plus one.
  std::uint64_t id_limit() const;
  /// For `rows` logits; `ends` are the tokens that end a text.
  Result<GrammarCompiler> grammar_compiler(std::size_t rows,
                                           std::span<const std::uint32_t> ends) const;

 private:
  std::shared_ptr<nibble_tokenizer> handle_;
};

/// Renders a chat template. Errors carry the template's line.
Result<std::string> bridge_render_chat(std::string_view chat_template, const Json& messages,
                                       const Json& variables);

}  // namespace nibble
