// The text part of a build without the Rust crate (NIBBLE_TEXT=OFF): graphs run from token ids.
#include "text/grammar.h"
#include "text/tokenizer.h"

namespace nibble {
namespace {

tl::unexpected<Error> absent() {
  return fail(ErrorCode::unsupported, "this build of nibble has no tokenizers (NIBBLE_TEXT=OFF)");
}

}  // namespace

struct Tokenizer::State {
  std::string json;
};

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::from_hf(const HfFiles&) { return absent(); }
Result<Tokenizer> Tokenizer::from_gguf(const Metadata&) { return absent(); }
Result<Tokenizer> Tokenizer::open(const Source&) { return absent(); }
std::size_t Tokenizer::vocab_size() const { return 0; }
Result<std::vector<Token>> Tokenizer::encode(std::string_view, const EncodeOptions&) const {
  return absent();
}
Result<std::string> Tokenizer::decode(std::span<const Token>, bool) const { return absent(); }
std::string Tokenizer::token_bytes(Token, bool) const { return ""; }
std::optional<Token> Tokenizer::bos() const { return std::nullopt; }
std::optional<Token> Tokenizer::eos() const { return std::nullopt; }
bool Tokenizer::adds_bos() const { return false; }
bool Tokenizer::ends_generation(Token) const { return false; }
bool Tokenizer::has_chat_template() const { return false; }
const std::string& Tokenizer::chat_template() const { return state_->json; }
Result<std::string> Tokenizer::render_chat(const Json&, bool, const Json&) const {
  return absent();
}
Result<GrammarCompiler> Tokenizer::grammar_compiler(std::size_t) const { return absent(); }
Result<Matcher> GrammarCompiler::json_schema(const std::string&) const { return absent(); }
Result<Matcher> GrammarCompiler::rules(const std::string&) const { return absent(); }
Result<Matcher> Matcher::split() const { return absent(); }
Result<std::span<const std::uint32_t>> Matcher::allowed() { return absent(); }
Result<bool> Matcher::accept(std::uint32_t) { return absent(); }
Status Tokenizer::to_gguf(Metadata&, std::uint32_t) const { return absent(); }
const std::string& Tokenizer::json() const { return state_->json; }
std::string TextStream::push(Token) { return ""; }
std::string TextStream::finish() { return ""; }

}  // namespace nibble
