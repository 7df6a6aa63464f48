#include "text/gguf_vocab.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/utf8.h"
#include "text/pre_tokenizer.h"

namespace nibble {
namespace {

// Values of tokenizer.ggml.token_type.
enum TokenType : std::int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

// The longest token of a file, in bytes: known vocabularies stay below 400. Every way to split a
// token is looked at.
constexpr std::size_t kLongestToken = 1024;

constexpr const char* kSpace = "\u2581";  // what SentencePiece writes for a space

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;
};

bool is_byte_token(std::string_view token) {
  return token.size() == 6 && token.starts_with("<0x") && token.ends_with('>');
}

Result<const Json*> member(const Json& object, const char* field, Json::value_t type) {
  const auto it = object.find(field);
  if (it == object.end() || it->type() != type)
    return fail(ErrorCode::corrupt, "tokenizer.json: field '{}' is missing or of the wrong type",
                field);
  return &*it;
}

Status place(Vocabulary& v, std::uint64_t id, const std::string& token, TokenType type) {
  if (id >= v.tokens.size())
    return fail(ErrorCode::invalid,
                "tokenizer.json: token {} has id {}, but the model's embedding has only {} rows; "
                "is this the model's tokenizer?",
                quote(token), id, v.tokens.size());
  v.tokens[id] = token;
  v.types[id] = type;
  return {};
}

Result<Vocabulary> read_vocabulary(const Json& tokenizer, const Json& model, std::uint32_t size) {
  Vocabulary v;
  for (std::uint32_t i = 0; i < size; ++i) v.tokens.push_back(fmt::format("[PAD{}]", i));
  v.types.assign(size, kUnused);
  NIBBLE_TRY(const Json* entries, member(model, "vocab", Json::value_t::object));
  NIBBLE_TRY(const bool byte_fallback, json_bool_or(model, "byte_fallback", false));
  NIBBLE_TRY(const std::string unknown, json_string_or(model, "unk_token", ""));
  for (const auto& [token, id] : entries->items()) {
    if (!id.is_number_unsigned())
      return fail(ErrorCode::corrupt, "tokenizer.json: id of token {} is not a whole number",
                  quote(token));
    const bool byte = byte_fallback && is_byte_token(token);
    NIBBLE_DO(place(v, id.get<std::uint64_t>(), token,
                    byte                                ? kByte
                    : byte_fallback && token == unknown ? kUnknown
                                                        : kNormal));
  }
  if (!tokenizer.contains("added_tokens") || tokenizer["added_tokens"].is_null()) return v;
  NIBBLE_TRY(const Json* added, member(tokenizer, "added_tokens", Json::value_t::array));
  for (const Json& token : *added) {
    NIBBLE_TRY_IN("tokenizer.json: added token", const std::string content,
                  json_string(token, "content"));
    NIBBLE_TRY_IN("tokenizer.json: added token", const std::uint64_t id, json_uint(token, "id"));
    NIBBLE_TRY_IN("tokenizer.json: added token", const bool special,
                  json_bool_or(token, "special", false));
    const bool is_unknown = byte_fallback && content == unknown;
    NIBBLE_DO(place(v, id, content, is_unknown ? kUnknown : special ? kControl : kUserDefined));
  }
  return v;
}

/// "left right" for each merge: files have them as such strings, or as pairs.
Result<std::vector<std::string>> read_merges(const Json& model) {
  NIBBLE_TRY(const Json* merges, member(model, "merges", Json::value_t::array));
  std::vector<std::string> out;
  for (const Json& merge : *merges) {
    const bool pair =
        merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    if (!pair && !merge.is_string())
      return fail(ErrorCode::corrupt, "tokenizer.json: a merge is neither a string nor a pair");
    out.push_back(pair ? merge[0].get<std::string>() + " " + merge[1].get<std::string>()
                       : merge.get<std::string>());
  }
  return out;
}

bool is_type(const Json& part, const char* type) {
  return part.is_object() && part.contains("type") && part["type"] == type;
}

/// Does SentencePiece put a space before the text? Recognises the three ways in which
/// tokenizer.json says how spaces become U+2581: normalizers Prepend + Replace, Replace alone,
/// pre-tokenizer Metaspace.
Result<bool> space_prefix(const Json& tokenizer) {
  const Json none;
  const Json& pre = tokenizer.contains("pre_tokenizer") ? tokenizer["pre_tokenizer"] : none;
  const Json& normalizer = tokenizer.contains("normalizer") ? tokenizer["normalizer"] : none;
  if (is_type(pre, "Metaspace")) {
    NIBBLE_TRY(const bool old_style, json_bool_or(pre, "add_prefix_space", true));
    NIBBLE_TRY(const std::string scheme,
               json_string_or(pre, "prepend_scheme", old_style ? "always" : "never"));
    return scheme != "never";
  }
  std::vector<Json> steps;
  if (is_type(normalizer, "Sequence") && normalizer.contains("normalizers") &&
      normalizer["normalizers"].is_array())
    steps = normalizer["normalizers"].get<std::vector<Json>>();
  else if (normalizer.is_object())
    steps = {normalizer};
  bool prefix = false, replaces = false;
  for (const Json& step : steps) {
    const std::string where = "tokenizer.json: normalizer";
    NIBBLE_TRY_IN(where, const std::string type, json_string(step, "type"));
    NIBBLE_TRY_IN(where, const std::string prepend, json_string_or(step, "prepend", ""));
    NIBBLE_TRY_IN(where, const std::string content, json_string_or(step, "content", ""));
    if (type == "Prepend" && prepend == kSpace) {
      prefix = true;
    } else if (type == "Replace" && content == kSpace) {
      replaces = true;
    } else {
      return fail(ErrorCode::unsupported, "tokenizer.json: normalizer {} has no GGUF form",
                  quote(type));
    }
  }
  if (!replaces)
    return fail(ErrorCode::unsupported,
                "tokenizer.json: nothing says how spaces are written; not a SentencePiece kind "
                "that GGUF knows");
  return prefix;
}

/// SentencePiece merges the neighbours whose union has the highest score; merges say the same by
/// their order.
std::vector<float> scores_of(const Vocabulary& v, const std::vector<std::string>& merges) {
  std::unordered_map<std::string_view, std::size_t> ids;
  for (std::size_t i = 0; i < v.tokens.size(); ++i)
    if (v.types[i] == kNormal) ids.emplace(v.tokens[i], i);
  std::vector<float> scores(v.tokens.size(), 0);
  std::vector<bool> scored(v.tokens.size(), false);
  float next = 0;
  for (const std::string& merge : merges) {
    const std::size_t space = merge.find(' ', 1);
    if (space == std::string::npos) continue;
    const auto it = ids.find(merge.substr(0, space) + merge.substr(space + 1));
    if (it == ids.end() || scored[it->second]) continue;
    scored[it->second] = true;
    scores[it->second] = -next++;
  }
  for (std::size_t i = 0; i < scores.size(); ++i)
    if (!scored[i] && v.types[i] == kNormal)
      scores[i] = -next++;  // single characters: never the result of a merge
  return scores;
}

/// Every way to split a token into two tokens is a merge; they apply in the order of their result's
/// score.
Json merges_from_scores(const std::vector<std::string>& tokens, const std::vector<float>& scores,
                        const std::vector<std::int32_t>& types) {
  std::unordered_map<std::string_view, std::size_t> ids;
  for (std::size_t i = 0; i < tokens.size(); ++i)
    if (types[i] == kNormal || types[i] == kUserDefined) ids.emplace(tokens[i], i);
  struct Merge {
    float score;
    std::size_t left, right;
  };
  std::vector<Merge> merges;
  for (const auto& [token, id] : ids) {
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      if ((std::uint8_t(token[cut]) & 0xc0) == 0x80) continue;  // inside a character
      const auto left = ids.find(token.substr(0, cut)), right = ids.find(token.substr(cut));
      if (left != ids.end() && right != ids.end())
        merges.push_back({scores[id], left->second, right->second});
    }
  }
  std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return a.score != b.score ? a.score > b.score
           : a.left != b.left ? a.left < b.left
                              : a.right < b.right;
  });
  Json out = Json::array();
  for (const Merge& m : merges) out.push_back({tokens[m.left], tokens[m.right]});
  return out;
}

template <class T>
Result<const std::vector<T>*> array_of(const Metadata& metadata, const char* key) {
  const MetaValue* value = metadata.find(key);
  const auto* array = value ? std::get_if<std::vector<T>>(value) : nullptr;
  if (!array) return fail(ErrorCode::corrupt, "key '{}' is missing or of the wrong type", key);
  return array;
}

Json added_tokens(const std::vector<std::string>& tokens, const std::vector<std::int32_t>& types) {
  Json out = Json::array();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (types[i] != kControl && types[i] != kUserDefined && types[i] != kUnknown) continue;
    out.push_back({{"id", i},
                   {"content", tokens[i]},
                   {"single_word", false},
                   {"lstrip", false},
                   {"rstrip", false},
                   {"normalized", false},
                   {"special", types[i] != kUserDefined}});
  }
  return out;
}

Status byte_level_model(const Metadata& metadata, Json& out) {
  NIBBLE_TRY(const std::string pre, metadata.text_or("tokenizer.ggml.pre", "default"));
  NIBBLE_TRY_IN("tokenizer.ggml.pre", PreTokenizer kind, pre_tokenizer_of(pre));
  NIBBLE_TRY(const auto* merges, array_of<std::string>(metadata, "tokenizer.ggml.merges"));
  Json list = Json::array();
  for (const std::string& merge : *merges) {
    const std::size_t space = merge.find(' ', 1);
    if (space == std::string::npos)
      return fail(ErrorCode::corrupt, "tokenizer.ggml.merges: {} is not a pair", quote(merge));
    list.push_back({merge.substr(0, space), merge.substr(space + 1)});
  }
  out["model"]["merges"] = std::move(list);
  out["model"]["ignore_merges"] = kind.ignore_merges;
  out["normalizer"] = kind.normalizer;
  out["pre_tokenizer"] = kind.pre_tokenizer;
  out["decoder"] = {{"type", "ByteLevel"},
                    {"add_prefix_space", true},
                    {"trim_offsets", true},
                    {"use_regex", true}};
  return {};
}

Status sentencepiece_model(const Metadata& metadata, const std::vector<std::string>& tokens,
                           const std::vector<std::int32_t>& types, Json& out) {
  NIBBLE_TRY(const auto* scores, array_of<float>(metadata, "tokenizer.ggml.scores"));
  if (scores->size() != tokens.size())
    return fail(ErrorCode::corrupt, "tokenizer.ggml.scores has {} entries for {} tokens",
                scores->size(), tokens.size());
  for (std::size_t i = 0; i < scores->size(); ++i)
    if (!std::isfinite((*scores)[i]))
      return fail(ErrorCode::corrupt, "tokenizer.ggml.scores: the score of token {} is {}", i,
                  (*scores)[i]);
  NIBBLE_TRY(const bool prefix, metadata.flag_or("tokenizer.ggml.add_space_prefix", true));
  out["model"]["merges"] = merges_from_scores(tokens, *scores, types);
  out["model"]["byte_fallback"] = true;
  out["model"]["fuse_unk"] = true;
  for (std::size_t i = 0; i < tokens.size(); ++i)
    if (types[i] == kUnknown) out["model"]["unk_token"] = tokens[i];
  Json steps = Json::array();
  if (prefix) steps.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
  steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}});
  out["normalizer"] = {{"type", "Sequence"}, {"normalizers", steps}};
  Json decoders =
      Json::array({{{"type", "Replace"}, {"pattern", {{"String", kSpace}}}, {"content", " "}},
                   {{"type", "ByteFallback"}},
                   {{"type", "Fuse"}}});
  if (prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  out["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
  return {};
}

}  // namespace

Status vocab_to_gguf(const Json& tokenizer, std::uint32_t vocab, Metadata& metadata) {
  if (!tokenizer.is_object()) return fail(ErrorCode::corrupt, "tokenizer.json: not an object");
  NIBBLE_TRY(const Json* model, member(tokenizer, "model", Json::value_t::object));
  NIBBLE_TRY(const std::string type, json_string_or(*model, "type", "BPE"));
  if (type != "BPE")
    return fail(ErrorCode::unsupported,
                "tokenizer.json: model of type '{}' can't be written as GGUF yet, only BPE", type);
  NIBBLE_TRY(Vocabulary v, read_vocabulary(tokenizer, *model, vocab));
  NIBBLE_TRY(std::vector<std::string> merges, read_merges(*model));
  NIBBLE_TRY(const bool byte_fallback, json_bool_or(*model, "byte_fallback", false));
  if (byte_fallback) {
    NIBBLE_TRY(const bool prefix, space_prefix(tokenizer));
    metadata.set("tokenizer.ggml.model", std::string("llama"));
    metadata.set("tokenizer.ggml.pre", std::string("default"));
    metadata.set("tokenizer.ggml.scores", scores_of(v, merges));
    metadata.set("tokenizer.ggml.add_space_prefix", prefix);
  } else {
    NIBBLE_TRY(const bool ignore_merges, json_bool_or(*model, "ignore_merges", false));
    const Json none;
    const Json& pre = tokenizer.contains("pre_tokenizer") ? tokenizer["pre_tokenizer"] : none;
    NIBBLE_TRY_IN("tokenizer.json", std::string name, pre_tokenizer_name(pre, ignore_merges));
    metadata.set("tokenizer.ggml.model", std::string("gpt2"));
    metadata.set("tokenizer.ggml.pre", std::move(name));
    metadata.set("tokenizer.ggml.merges", std::move(merges));
  }
  metadata.set("tokenizer.ggml.tokens", std::move(v.tokens));
  metadata.set("tokenizer.ggml.token_type", std::move(v.types));
  return {};
}

Result<Json> vocab_from_gguf(const Metadata& metadata) {
  NIBBLE_TRY(const std::string kind, metadata.text("tokenizer.ggml.model"));
  NIBBLE_TRY(const auto* tokens, array_of<std::string>(metadata, "tokenizer.ggml.tokens"));
  std::vector<std::int32_t> types(tokens->size(), kNormal);
  if (metadata.find("tokenizer.ggml.token_type")) {
    NIBBLE_TRY(const auto* stored, array_of<std::int32_t>(metadata, "tokenizer.ggml.token_type"));
    if (stored->size() != tokens->size())
      return fail(ErrorCode::corrupt, "tokenizer.ggml.token_type has {} entries for {} tokens",
                  stored->size(), tokens->size());
    types = *stored;
  }
  Json vocab = Json::object();
  for (std::size_t i = 0; i < tokens->size(); ++i) {
    if (types[i] == kUnused) continue;
    if ((*tokens)[i].size() > kLongestToken)
      return fail(ErrorCode::corrupt, "tokenizer.ggml.tokens: token {} has {} bytes, at most {}", i,
                  (*tokens)[i].size(), kLongestToken);
    if (!vocab.emplace((*tokens)[i], i).second)
      return fail(ErrorCode::corrupt, "tokenizer.ggml.tokens: {} occurs twice",
                  quote((*tokens)[i]));
  }
  Json out = {{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", added_tokens(*tokens, types)},
              {"normalizer", nullptr},
              {"pre_tokenizer", nullptr},
              {"post_processor", nullptr},
              {"decoder", nullptr},
              {"model",
               {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", nullptr},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"fuse_unk", false},
                {"byte_fallback", false},
                {"ignore_merges", false},
                {"vocab", std::move(vocab)}}}};
  if (kind == "gpt2")
    NIBBLE_DO(byte_level_model(metadata, out));
  else if (kind == "llama")
    NIBBLE_DO(sentencepiece_model(metadata, *tokens, types, out));
  else
    return fail(ErrorCode::unsupported, "tokenizer.ggml.model is {}; nibble reads gpt2 and llama",
                quote(kind));
  return out;
}

}  // namespace nibble
