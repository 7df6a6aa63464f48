#include "text/pre_tokenizer.h"

#include <algorithm>
#include <vector>

namespace nibble {
namespace {

// The pattern of GPT-2's tokenizer, which the ByteLevel pre-tokenizer applies with use_regex.
constexpr const char* kGpt2 =
    R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kDigit = R"(\p{N})";
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kDeepseekWords =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kCjk = "[一-龥぀-ゟ゠-ヿ]+";
constexpr const char* kSeedCoder =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Files made before GGUF named its pre-tokenizers.
constexpr const char* kPunctuation = R"([\p{P}\$\+<=>\^~\|]+)";

struct Known {
  std::vector<std::string_view> names;   // the first is written, all are read
  std::vector<std::string_view> stages;  // the text is cut by each in turn
  bool ignore_merges = false;
  bool nfc = false;  // models of this kind normalise to NFC
};

const std::vector<Known>& known() {
  static const std::vector<Known> all = {
      {{"gpt-2", "mpt", "olmo", "jais", "phi-2", "exaone4", "trillion", "mellum", "modern-bert"},
       {kGpt2}},
      {{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"},
       {kDigit, kGpt2}},
      {{"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "midm-2.0", "lfm2"},
       {kLlama3},
       true},
      {{"smaug-bpe", "dbrx", "chatglm-bpe"}, {kLlama3}},
      {{"qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"}, {kQwen2}, false, true},
      {{"qwen35"}, {kQwen35}, false, true},
      {{"tekken"}, {kTekken}, true},
      {{"gpt-4o", "llama4", "kanana2"}, {kGpt4o}},
      {{"deepseek-v3"}, {R"(\p{N}{1,3})", kCjk, kDeepseekWords}},
      {{"seed-coder"}, {kSeedCoder}},
      {{"default"}, {kPunctuation, kGpt2, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
  };
  return all;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

/// Different spellings of the same pattern become one.
std::string canonical(std::string pattern) {
  replace_all(pattern, "\r", R"(\r)");
  replace_all(pattern, "\n", R"(\n)");
  replace_all(pattern, R"((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]))",
              R"((?i:'s|'t|'re|'ve|'m|'ll|'d))");
  replace_all(pattern, R"('s|'t|'re|'ve|'m|'ll|'d| ?)", R"('(?:[sdmt]|ll|ve|re)| ?)");
  replace_all(pattern, "{1}", "");
  return pattern;
}

/// Appends the patterns that one pre-tokenizer of tokenizer.json cuts by.
Status add_stages(const Json& node, int depth, std::vector<std::string>& stages) {
  NIBBLE_TRY(const std::string type, json_string(node, "type"));
  if (type == "Sequence") {
    const auto parts = node.find("pretokenizers");
    if (parts == node.end() || !parts->is_array() || depth > 4)
      return fail(ErrorCode::corrupt, "field 'pretokenizers' is not a list");
    for (const Json& part : *parts) NIBBLE_DO(add_stages(part, depth + 1, stages));
    return {};
  }
  if (type == "Digits") {
    NIBBLE_TRY(const bool individual, json_bool_or(node, "individual_digits", false));
    stages.push_back(individual ? kDigit : R"(\p{N}+)");
    return {};
  }
  if (type == "ByteLevel") {
    NIBBLE_TRY(const bool prefix, json_bool_or(node, "add_prefix_space", true));
    if (prefix)
      return fail(ErrorCode::unsupported,
                  "pre-tokenizer ByteLevel with add_prefix_space has no GGUF form");
    NIBBLE_TRY(const bool regex, json_bool_or(node, "use_regex", true));
    if (regex) stages.push_back(kGpt2);
    return {};
  }
  if (type == "Split") {
    NIBBLE_TRY(const std::string behavior, json_string_or(node, "behavior", "Isolated"));
    NIBBLE_TRY(const bool invert, json_bool_or(node, "invert", false));
    const auto pattern = node.find("pattern");
    // With invert and Removed, what matches is kept: the same cut as Isolated for patterns that
    // match everything.
    const bool isolates = (behavior == "Isolated" && !invert) || (behavior == "Removed" && invert);
    if (pattern == node.end() || !pattern->is_object() || !isolates)
      return fail(ErrorCode::unsupported, "pre-tokenizer Split with behavior {} has no GGUF form",
                  behavior);
    NIBBLE_TRY(const std::string regex, json_string(*pattern, "Regex"));
    stages.push_back(canonical(regex));
    return {};
  }
  return fail(ErrorCode::unsupported, "pre-tokenizer of type '{}' has no GGUF form", type);
}

}  // namespace

Result<std::string> pre_tokenizer_name(const Json& pre_tokenizer, bool ignore_merges) {
  if (!pre_tokenizer.is_object())
    return fail(ErrorCode::unsupported, "byte-level BPE without a pre-tokenizer has no GGUF form");
  std::vector<std::string> stages;
  NIBBLE_DO(add_stages(pre_tokenizer, 0, stages));
  const Known* other = nullptr;
  for (const Known& k : known()) {
    if (!std::equal(stages.begin(), stages.end(), k.stages.begin(), k.stages.end())) continue;
    if (k.ignore_merges == ignore_merges) return std::string(k.names[0]);
    other = &k;
  }
  if (other)
    return fail(ErrorCode::unsupported, "pre-tokenizer '{}' with ignore_merges {} has no GGUF form",
                other->names[0], ignore_merges);
  return fail(ErrorCode::unsupported,
              "pre-tokenizer not recognised, so no runtime would cut text as this model does: {}",
              fmt::join(stages, "  then  "));
}

Result<PreTokenizer> pre_tokenizer_of(std::string_view name) {
  for (const Known& k : known()) {
    if (std::find(k.names.begin(), k.names.end(), name) == k.names.end()) continue;
    Json parts = Json::array();
    bool byte_level_regex = false;
    for (const std::string_view stage : k.stages) {
      if (stage == kGpt2 && stage == k.stages.back()) {
        byte_level_regex = true;
      } else if (stage == kDigit) {
        parts.push_back({{"type", "Digits"}, {"individual_digits", true}});
      } else {
        parts.push_back({{"type", "Split"},
                         {"pattern", {{"Regex", stage}}},
                         {"behavior", "Isolated"},
                         {"invert", false}});
      }
    }
    parts.push_back({{"type", "ByteLevel"},
                     {"add_prefix_space", false},
                     {"trim_offsets", true},
                     {"use_regex", byte_level_regex}});
    PreTokenizer out;
    out.pre_tokenizer = {{"type", "Sequence"}, {"pretokenizers", parts}};
    if (k.nfc) out.normalizer = {{"type", "NFC"}};
    out.ignore_merges = k.ignore_merges;
    return out;
  }
  return fail(ErrorCode::unsupported, "pre-tokenizer '{}' is not one that nibble knows", name);
}

}  // namespace nibble
