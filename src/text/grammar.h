// Grammars that a text must follow: JSON schemas, and rules in the dialect of llguidance.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

struct nibble_matcher;
struct nibble_vocabulary;

namespace nibble {

/// How far one text has come through its grammar. For one thread at a time.
class Matcher {
 public:
  /// Another one in the same state.
  Result<Matcher> split() const;
  /// Bit i % 32 of word i / 32: token i may come next. Valid until the next call. Error: the
  /// grammar takes too long.
  Result<std::span<const std::uint32_t>> allowed();
  /// Goes on by one of the tokens allowed. True: nothing can follow.
  Result<bool> accept(std::uint32_t token);

 private:
  friend class GrammarCompiler;
  Matcher(nibble_matcher* handle, std::size_t words);
  std::shared_ptr<nibble_matcher> handle_;
  std::vector<std::uint32_t> mask_;
};

/// Compiles grammars for one vocabulary (Tokenizer::grammar_compiler makes it). Immutable; safe to
/// use from many threads.
class GrammarCompiler {
 public:
  /// Errors: what the schema holds is malformed, unsupported or too much.
  Result<Matcher> json_schema(const std::string& schema) const;
  /// Rules, where `%json {...}` stands for what a schema allows.
  Result<Matcher> rules(const std::string& text) const;

 private:
  friend class BridgeTokenizer;
  GrammarCompiler(nibble_vocabulary* handle, std::size_t rows);
  Result<Matcher> compile(int kind, const std::string& text) const;
  std::shared_ptr<nibble_vocabulary> handle_;
  std::size_t rows_;
};

}  // namespace nibble
