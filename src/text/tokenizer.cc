#include "text/tokenizer.h"

#include <algorithm>
#include <array>
#include <set>

#include "text/bridge.h"
#include "text/gguf_vocab.h"

namespace nibble {
namespace {

// Names that models give to the token that ends a turn or a text.
constexpr std::array<std::string_view, 12> kEndNames = {
    "<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>", "<|end|>",
    "<|eom_id|>", "</s>",       "<eos>",         "<|eos|>",         "<|endofturn|>", "<EOT>"};

/// A token name as tokenizer_config.json has it: a string, or an object with "content".
std::string token_name(const Json& config, const char* field) {
  if (!config.is_object() || !config.contains(field)) return "";
  const Json& value = config[field];
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("content") && value["content"].is_string())
    return value["content"].get<std::string>();
  return "";
}

/// One id or a list of ids under `field`.
std::vector<Token> token_ids(const Json& config, const char* field) {
  std::vector<Token> out;
  if (!config.is_object() || !config.contains(field)) return out;
  const Json& value = config[field];
  const auto add = [&](const Json& id) {
    if (id.is_number_unsigned() && id.get<std::uint64_t>() <= UINT32_MAX)
      out.push_back(id.get<Token>());
  };
  if (value.is_array())
    for (const Json& id : value) add(id);
  else
    add(value);
  return out;
}

/// A template string, or the default one of a list of named templates.
std::string chat_template_of(const HfFiles& files) {
  if (!files.chat_template.empty()) return files.chat_template;
  const Json& config = files.tokenizer_config;
  if (!config.is_object() || !config.contains("chat_template")) return "";
  const Json& value = config["chat_template"];
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array())
    for (const Json& entry : value)
      if (entry.is_object() && entry.contains("name") && entry["name"] == "default" &&
          entry.contains("template") && entry["template"].is_string())
        return entry["template"].get<std::string>();
  return "";
}

}  // namespace

struct Tokenizer::State {
  std::string where;  // what errors call the file and the part of it that this was read from
  std::string json;
  BridgeTokenizer bridge;
  std::string chat_template;
  std::optional<Token> bos, eos, unknown, padding;
  std::vector<Token> prefix, suffix;  // what is put around a text
  std::set<Token> ends;

  std::optional<Token> id_of(std::string_view name) const {
    return name.empty() ? std::nullopt : bridge.token_to_id(name);
  }

  /// What the post-processor of tokenizer.json puts around a text.
  Status find_affixes() {
    NIBBLE_TRY(const auto bare, bridge.encode("a", 0));
    NIBBLE_TRY(const auto full, bridge.encode("a", BridgeTokenizer::kAddSpecial));
    const auto at = std::search(full.begin(), full.end(), bare.begin(), bare.end());
    if (bare.empty() || at == full.end()) return {};
    prefix.assign(full.begin(), at);
    suffix.assign(at + std::ptrdiff_t(bare.size()), full.end());
    return {};
  }

  /// Errors are the text's fault, except for those that a contradictory tokenizer runs into.
  template <class T>
  Result<T> blame(Result<T> result) const {
    if (result || result.error().code() != ErrorCode::corrupt) return result;
    return tl::unexpected(result.error().in(where));
  }

  void find_ends() {
    if (eos) ends.insert(*eos);
    for (const std::string_view name : kEndNames)
      if (const auto id = id_of(name)) ends.insert(*id);
  }
};

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::from_hf(const HfFiles& files) {
  if (files.tokenizer_json.empty())
    return fail(ErrorCode::invalid,
                "tokenizer.json is missing; nibble needs it next to the weights");
  auto state = std::make_unique<State>();
  state->where = "tokenizer.json";
  state->json = files.tokenizer_json;
  NIBBLE_TRY_IN(state->where, state->bridge, BridgeTokenizer::load(state->json));
  NIBBLE_DO_IN(state->where, state->find_affixes());
  const Json& config = files.tokenizer_config;
  const auto special = [&](const char* name_field, const char* id_field) {
    auto id = state->id_of(token_name(config, name_field));
    for (const Json* source : {&files.generation_config, &files.config})
      if (!id)
        if (const auto ids = token_ids(*source, id_field); !ids.empty()) id = ids[0];
    return id;
  };
  state->bos = special("bos_token", "bos_token_id");
  state->eos = special("eos_token", "eos_token_id");
  state->padding = special("pad_token", "pad_token_id");
  state->unknown = state->id_of(token_name(config, "unk_token"));
  // Older files leave it to tokenizer_config.json to say that texts begin with BOS.
  NIBBLE_TRY_IN("tokenizer_config.json", const bool add_bos,
                json_bool_or(config, "add_bos_token", false));
  NIBBLE_TRY_IN("tokenizer_config.json", const bool add_eos,
                json_bool_or(config, "add_eos_token", false));
  if (add_bos && state->prefix.empty() && state->bos) state->prefix = {*state->bos};
  if (add_eos && state->suffix.empty() && state->eos) state->suffix = {*state->eos};
  state->find_ends();
  for (const Json* source : {&files.generation_config, &files.config})
    for (const Token id : token_ids(*source, "eos_token_id")) state->ends.insert(id);
  state->chat_template = chat_template_of(files);
  return Tokenizer(std::move(state));
}

Result<Tokenizer> Tokenizer::from_gguf(const Metadata& metadata) {
  NIBBLE_TRY(const Json json, vocab_from_gguf(metadata));
  auto state = std::make_unique<State>();
  state->where = "tokenizer.ggml";
  // Token texts of a file need not be UTF-8 as JSON demands; such tokens can't be produced by text
  // either.
  state->json = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  NIBBLE_TRY_IN(state->where, state->bridge, BridgeTokenizer::load(state->json));
  const std::uint64_t size = state->bridge.id_limit();
  const auto special = [&](const char* key) -> Result<std::optional<Token>> {
    if (!metadata.find(key)) return std::optional<Token>();
    NIBBLE_TRY(const std::uint64_t id, metadata.uint(key));
    if (id >= size)
      return fail(ErrorCode::corrupt, "key '{}': token {} is outside the vocabulary of {}", key, id,
                  size);
    return std::optional<Token>(Token(id));
  };
  NIBBLE_TRY(state->bos, special("tokenizer.ggml.bos_token_id"));
  NIBBLE_TRY(state->eos, special("tokenizer.ggml.eos_token_id"));
  NIBBLE_TRY(state->unknown, special("tokenizer.ggml.unknown_token_id"));
  NIBBLE_TRY(state->padding, special("tokenizer.ggml.padding_token_id"));
  NIBBLE_TRY(const std::string kind, metadata.text("tokenizer.ggml.model"));
  NIBBLE_TRY(const std::string pre, metadata.text_or("tokenizer.ggml.pre", ""));
  // Where a file does not say, SentencePiece models and Llama 3 begin with BOS.
  const bool by_kind = kind == "llama" || pre == "llama-bpe" || pre == "llama3" || pre == "tekken";
  NIBBLE_TRY(const bool add_bos, metadata.flag_or("tokenizer.ggml.add_bos_token", by_kind));
  NIBBLE_TRY(const bool add_eos, metadata.flag_or("tokenizer.ggml.add_eos_token", false));
  if (add_bos && state->bos) state->prefix = {*state->bos};
  if (add_eos && state->eos) state->suffix = {*state->eos};
  state->find_ends();
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    NIBBLE_TRY(const auto id, special(key));
    if (id) state->ends.insert(*id);
  }
  NIBBLE_TRY(state->chat_template, metadata.text_or("tokenizer.chat_template", ""));
  return Tokenizer(std::move(state));
}

Result<Tokenizer> Tokenizer::open(const Source& source) {
  auto tokenizer = source.hf() ? from_hf(*source.hf()) : from_gguf(source.metadata());
  if (tokenizer) tokenizer->state_->where = source.path() + ": " + tokenizer->state_->where;
  return tokenizer;
}

std::size_t Tokenizer::vocab_size() const { return std::size_t(state_->bridge.id_limit()); }

Result<std::vector<Token>> Tokenizer::encode(std::string_view text,
                                             const EncodeOptions& options) const {
  const std::uint32_t flags = options.parse_special ? BridgeTokenizer::kParseSpecial : 0;
  NIBBLE_TRY(std::vector<Token> out, state_->blame(state_->bridge.encode(text, flags)));
  if (!options.add_special) return out;
  const auto& prefix = state_->prefix;
  const bool there =
      out.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), out.begin());
  if (!there) out.insert(out.begin(), prefix.begin(), prefix.end());
  out.insert(out.end(), state_->suffix.begin(), state_->suffix.end());
  return out;
}

Result<std::string> Tokenizer::decode(std::span<const Token> tokens, bool skip_special) const {
  return state_->blame(state_->bridge.decode(tokens, skip_special));
}

std::string Tokenizer::token_bytes(Token token, bool first) const {
  return state_->bridge.token_bytes(token, first);
}

std::optional<Token> Tokenizer::bos() const { return state_->bos; }
std::optional<Token> Tokenizer::eos() const { return state_->eos; }
bool Tokenizer::adds_bos() const {
  return state_->bos && !state_->prefix.empty() && state_->prefix.front() == *state_->bos;
}
bool Tokenizer::ends_generation(Token token) const { return state_->ends.contains(token); }
bool Tokenizer::has_chat_template() const { return !state_->chat_template.empty(); }
const std::string& Tokenizer::chat_template() const { return state_->chat_template; }

Result<GrammarCompiler> Tokenizer::grammar_compiler(std::size_t rows) const {
  std::vector<Token> ends(state_->ends.begin(), state_->ends.end());
  std::erase_if(ends, [&](Token token) { return token >= rows; });
  return state_->bridge.grammar_compiler(rows, ends);
}

Result<std::string> Tokenizer::render_chat(const Json& messages, bool add_generation_prompt,
                                           const Json& variables) const {
  if (!has_chat_template()) return fail(ErrorCode::invalid, "the model has no chat template");
  Json all = variables.is_object() ? variables : Json::object();
  const auto name = [&](std::optional<Token> id) {
    return id ? state_->bridge.id_to_token(*id) : std::string();
  };
  all.emplace("bos_token", name(state_->bos));
  all.emplace("eos_token", name(state_->eos));
  all["add_generation_prompt"] = add_generation_prompt;
  NIBBLE_TRY_IN("chat template", std::string text,
                bridge_render_chat(state_->chat_template, messages, all));
  return text;
}

Status Tokenizer::to_gguf(Metadata& metadata, std::uint32_t vocab) const {
  NIBBLE_TRY_IN("tokenizer.json", const Json json, parse_json(state_->json));
  NIBBLE_DO(vocab_to_gguf(json, vocab, metadata));
  const auto set = [&](const char* key, std::optional<Token> id) {
    if (id && *id < vocab) metadata.set(key, *id);
  };
  set("tokenizer.ggml.bos_token_id", state_->bos);
  set("tokenizer.ggml.eos_token_id", state_->eos);
  set("tokenizer.ggml.unknown_token_id", state_->unknown);
  set("tokenizer.ggml.padding_token_id", state_->padding);
  metadata.set("tokenizer.ggml.add_bos_token", adds_bos());
  metadata.set("tokenizer.ggml.add_eos_token", !state_->suffix.empty());
  if (has_chat_template()) metadata.set("tokenizer.chat_template", state_->chat_template);
  return {};
}

const std::string& Tokenizer::json() const { return state_->json; }

std::string TextStream::push(Token token) {
  pending_ += tokenizer_->token_bytes(token, first_);
  first_ = false;
  // Everything up to the last complete character: at most 3 bytes of an unfinished one are held
  // back.
  std::size_t end = pending_.size();
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, pending_.size()); ++back) {
    const auto byte = std::uint8_t(pending_[pending_.size() - back]);
    if ((byte & 0xc0) == 0x80) continue;  // a continuation byte: look further back
    const std::size_t need = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    if (need > back) end = pending_.size() - back;
    break;
  }
  std::string out = pending_.substr(0, end);
  pending_.erase(0, end);
  return out;
}

std::string TextStream::finish() {
  const bool rest = !pending_.empty();
  pending_.clear();
  return rest ? "\uFFFD" : "";
}

}  // namespace nibble
