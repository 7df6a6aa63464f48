#include "text/bridge.h"

#include "nibble_text.h"

namespace nibble {
namespace {

static_assert(BridgeTokenizer::kParseSpecial == NIBBLE_TEXT_PARSE_SPECIAL);
static_assert(BridgeTokenizer::kAddSpecial == NIBBLE_TEXT_ADD_SPECIAL);

// The crate encodes at most 16 MiB at once; longer texts are cut at line ends, where every
// pre-tokenizer cuts too.
constexpr std::size_t kPiece = 4u << 20;

class Buffer {
 public:
  ~Buffer() { nibble_text_buffer_free(&raw); }
  std::string text() const { return std::string(reinterpret_cast<const char*>(raw.data), raw.len); }
  nibble_text_buffer raw{nullptr, 0};
};

const std::uint8_t* bytes(std::string_view text) {
  return reinterpret_cast<const std::uint8_t*>(text.data());
}

ErrorCode code_of(std::int32_t status) {
  switch (status) {
    case NIBBLE_TEXT_CORRUPT:
      return ErrorCode::corrupt;
    case NIBBLE_TEXT_UNSUPPORTED:
      return ErrorCode::unsupported;
    case NIBBLE_TEXT_INTERNAL:
      return ErrorCode::internal;
    default:
      return ErrorCode::invalid;
  }
}

/// Where to end a piece that starts at `begin`: behind the last line end before the limit, if there
/// is one. A line end followed by white space would be one word with it, so the cut is made before
/// a visible character.
std::size_t piece_end(std::string_view text, std::size_t begin) {
  if (text.size() - begin <= kPiece) return text.size();
  for (std::size_t at = begin + kPiece; at > begin + 1; --at) {
    const auto next = std::uint8_t(text[at]);
    if (text[at - 1] == '\n' && next > ' ') return at;
  }
  return std::min(text.size(),
                  begin + 4 * kPiece);  // one enormous line: the crate's own limit decides
}

}  // namespace

Result<BridgeTokenizer> BridgeTokenizer::load(std::string_view json) {
  nibble_tokenizer* handle = nullptr;
  Buffer error;
  const std::int32_t status = nibble_tokenizer_load(bytes(json), json.size(), &handle, &error.raw);
  if (status != NIBBLE_TEXT_OK) return fail(code_of(status), "{}", error.text());
  BridgeTokenizer out;
  out.handle_.reset(handle, nibble_tokenizer_free);
  return out;
}

Result<std::vector<std::uint32_t>> BridgeTokenizer::encode(std::string_view text,
                                                           std::uint32_t flags) const {
  std::vector<std::uint32_t> out;
  std::size_t begin = 0;
  do {
    const std::size_t end = piece_end(text, begin);
    nibble_text_ids ids{nullptr, 0};
    Buffer error;
    const std::int32_t status = nibble_tokenizer_encode(handle_.get(), bytes(text) + begin,
                                                        end - begin, flags, &ids, &error.raw);
    if (status != NIBBLE_TEXT_OK) return fail(code_of(status), "{}", error.text());
    out.insert(out.end(), ids.data, ids.data + ids.len);
    nibble_text_ids_free(&ids);
    begin = end;
  } while (begin < text.size());
  return out;
}

Result<std::string> BridgeTokenizer::decode(std::span<const std::uint32_t> ids,
                                            bool skip_special) const {
  Buffer out, error;
  const std::int32_t status = nibble_tokenizer_decode(handle_.get(), ids.data(), ids.size(),
                                                      skip_special, &out.raw, &error.raw);
  if (status != NIBBLE_TEXT_OK) return fail(code_of(status), "{}", error.text());
  return out.text();
}

std::string BridgeTokenizer::token_bytes(std::uint32_t id, bool first) const {
  Buffer out, error;
  nibble_tokenizer_token_bytes(handle_.get(), id, first, &out.raw, &error.raw);
  return out.text();
}

std::string BridgeTokenizer::id_to_token(std::uint32_t id) const {
  Buffer out, error;
  nibble_tokenizer_id_to_token(handle_.get(), id, &out.raw, &error.raw);
  return out.text();
}

std::optional<std::uint32_t> BridgeTokenizer::token_to_id(std::string_view token) const {
  std::uint32_t id = 0;
  Buffer error;
  if (nibble_tokenizer_token_to_id(handle_.get(), bytes(token), token.size(), &id, &error.raw) !=
      NIBBLE_TEXT_OK)
    return std::nullopt;
  return id;
}

std::uint64_t BridgeTokenizer::id_limit() const { return nibble_tokenizer_id_limit(handle_.get()); }

Result<GrammarCompiler> BridgeTokenizer::grammar_compiler(
    std::size_t rows, std::span<const std::uint32_t> ends) const {
  nibble_vocabulary* handle = nullptr;
  Buffer error;
  const std::int32_t status =
      nibble_vocabulary_new(handle_.get(), rows, ends.data(), ends.size(), &handle, &error.raw);
  if (status != NIBBLE_TEXT_OK) return fail(code_of(status), "{}", error.text());
  return GrammarCompiler(handle, rows);
}

GrammarCompiler::GrammarCompiler(nibble_vocabulary* handle, std::size_t rows)
    : handle_(handle, nibble_vocabulary_free), rows_(rows) {}

Result<Matcher> GrammarCompiler::json_schema(const std::string& schema) const {
  return compile(NIBBLE_GRAMMAR_JSON_SCHEMA, schema);
}

Result<Matcher> GrammarCompiler::rules(const std::string& text) const {
  return compile(NIBBLE_GRAMMAR_LARK, text);
}

Result<Matcher> GrammarCompiler::compile(int kind, const std::string& text) const {
  nibble_matcher* handle = nullptr;
  Buffer error;
  const std::int32_t status =
      nibble_matcher_new(handle_.get(), kind, bytes(text), text.size(), &handle, &error.raw);
  if (status != NIBBLE_TEXT_OK) return fail(code_of(status), "{}", error.text());
  return Matcher(handle, (rows_ + 31) / 32);
}

Matcher::Matcher(nibble_matcher* handle, std::size_t words)
    : handle_(handle, nibble_matcher_free), mask_(words) {}

Result<Matcher> Matcher::split() const {
  nibble_matcher* handle = nullptr;
  Buffer error;
  const std::int32_t status = nibble_matcher_split(handle_.get(), &handle, &error.raw);
  if (status != NIBBLE_TEXT_OK) return fail(code_of(status), "{}", error.text());
  return Matcher(handle, mask_.size());
}

Result<std::span<const std::uint32_t>> Matcher::allowed() {
  Buffer error;
  const std::int32_t status =
      nibble_matcher_mask(handle_.get(), mask_.data(), mask_.size(), &error.raw);
  if (status != NIBBLE_TEXT_OK) return fail(code_of(status), "{}", error.text());
  return std::span<const std::uint32_t>(mask_);
}

Result<bool> Matcher::accept(std::uint32_t token) {
  std::int32_t complete = 0;
  Buffer error;
  const std::int32_t status = nibble_matcher_accept(handle_.get(), token, &complete, &error.raw);
  if (status != NIBBLE_TEXT_OK) return fail(code_of(status), "{}", error.text());
  return complete != 0;
}

Result<std::string> bridge_render_chat(std::string_view chat_template, const Json& messages,
                                       const Json& variables) {
  const std::string messages_text = messages.dump(-1, ' ', false, Json::error_handler_t::replace);
  const std::string variables_text = variables.dump(-1, ' ', false, Json::error_handler_t::replace);
  nibble_chat_request request{};
  request.template_text = bytes(chat_template);
  request.template_len = chat_template.size();
  request.messages = bytes(messages_text);
  request.messages_len = messages_text.size();
  request.variables = bytes(variables_text);
  request.variables_len = variables_text.size();
  Buffer out, error;
  std::uint32_t line = 0;
  const std::int32_t status = nibble_chat_render(&request, &out.raw, &line, &error.raw);
  if (status == NIBBLE_TEXT_OK) return out.text();
  if (line > 0) return fail(code_of(status), "line {}: {}", line, error.text());
  return fail(code_of(status), "{}", error.text());
}

}  // namespace nibble
