// Tokenizers and chat templates (through the Rust crates tokenizers and minijinja), from
// tokenizer.json or GGUF.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "container/metadata.h"
#include "container/source.h"

namespace nibble {

using Token = std::uint32_t;

struct EncodeOptions {
  bool add_special = true;  // put BOS (or what the model wants) around the text; never doubled
  bool parse_special =
      false;  // recognise "<|im_start|>" and friends in the text; else they are spelled as text
};

class GrammarCompiler;

class Tokenizer {
 public:
  static Result<Tokenizer> from_hf(const HfFiles& files);
  /// Rebuilds tokenizer.json from tokenizer.ggml.* keys (models "gpt2" and "llama").
  static Result<Tokenizer> from_gguf(const Metadata& metadata);
  /// Whichever the source has.
  static Result<Tokenizer> open(const Source& source);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  std::size_t vocab_size() const;
  Result<std::vector<Token>> encode(std::string_view text, const EncodeOptions& options = {}) const;
  Result<std::string> decode(std::span<const Token> tokens, bool skip_special = true) const;
  /// The raw bytes of one token: possibly a part of a character. `first`: nothing precedes it.
  std::string token_bytes(Token token, bool first = false) const;

  std::optional<Token> bos() const;
  std::optional<Token> eos() const;
  bool adds_bos() const;
  bool ends_generation(Token token) const;  // eos, end of turn, ...

  bool has_chat_template() const;
  const std::string& chat_template() const;  // empty: there is none
  /// `messages`: JSON array of {"role", "content"}; `variables` are added to the template's (tools,
  /// ...).
  Result<std::string> render_chat(const Json& messages, bool add_generation_prompt,
                                  const Json& variables = {}) const;

  /// For grammars over `rows` logits. Error: the tokenizer has no token that ends a text.
  Result<GrammarCompiler> grammar_compiler(std::size_t rows) const;

  /// Sets tokenizer.ggml.* and tokenizer.chat_template. `vocab`: rows of the embedding matrix;
  /// missing tokens are filled in as unused.
  Status to_gguf(Metadata& metadata, std::uint32_t vocab) const;
  /// tokenizer.json, for writing Hugging Face directories.
  const std::string& json() const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Turns tokens into text as they come, holding back incomplete UTF-8 characters.
class TextStream {
 public:
  /// `at_start`: no text precedes what is pushed (some tokenizers drop a leading space there).
  explicit TextStream(const Tokenizer& tokenizer, bool at_start = false)
      : tokenizer_(&tokenizer), first_(at_start) {}
  std::string push(Token token);
  std::string finish();  // what is left, with invalid bytes replaced

 private:
  const Tokenizer* tokenizer_;
  std::string pending_;
  bool first_ = false;
};

}  // namespace nibble
