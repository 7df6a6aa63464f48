// nibble tokenize: which tokens a model sees.
#include <fmt/format.h>

#include <memory>

#include "arch/arch.h"
#include "base/file.h"
#include "cli/command.h"
#include "container/hub.h"
#include "text/tokenizer.h"

namespace nibble::cli {
namespace {

struct Options {
  std::string model, file;
  std::vector<std::string> texts;
  EncodeOptions encode{.add_special = false, .parse_special = true};
  bool spell = false, json = false;
};

Result<std::vector<std::string>> texts_of(const Options& options) {
  std::vector<std::string> texts = options.texts;
  if (options.file.empty()) return texts;
  NIBBLE_TRY(const std::string content, read_text(options.file));
  if (!options.file.ends_with(".json")) return std::vector<std::string>{content};
  NIBBLE_TRY_IN(options.file, const Json list, parse_json(content));
  if (!list.is_array())
    return fail(ErrorCode::corrupt, "{}: expected a list of strings", options.file);
  for (const Json& text : list) {
    if (!text.is_string())
      return fail(ErrorCode::corrupt, "{}: expected a list of strings", options.file);
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

std::string quoted(const std::string& bytes) {
  return nlohmann::json(bytes).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<int> run(Options& options) {
  ConsoleProgress progress;
  NIBBLE_TRY(const std::string path, resolve_source(options.model, {}, progress));
  NIBBLE_TRY(const auto source, open_source(path));
  NIBBLE_TRY_IN(path, const Tokenizer tokenizer, Tokenizer::open(*source));
  NIBBLE_TRY(const auto texts, texts_of(options));
  if (texts.empty()) return fail(ErrorCode::invalid, "nothing to tokenize: give a text or --file");
  options.encode.parse_special = !options.spell;
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const std::string& text : texts) {
    NIBBLE_TRY(const auto ids, tokenizer.encode(text, options.encode));
    if (options.json) {
      NIBBLE_TRY(const std::string decoded, tokenizer.decode(ids, false));
      out.push_back({{"ids", ids}, {"decoded", decoded}});
      continue;
    }
    for (const Token id : ids) fmt::print("{:>8}  {}\n", id, quoted(tokenizer.token_bytes(id)));
  }
  return options.json ? print_json(out) : kExitOk;
}

}  // namespace

Run add_tokenize(CLI::App& app) {
  app.description("Show the tokens that a model makes of a text.");
  const auto options = std::make_shared<Options>();
  app.add_option("model", options->model, "GGUF file, Hugging Face directory or org/name")
      ->required();
  app.add_option("text", options->texts, "Texts");
  app.add_option("--file", options->file, "A text file, or a .json list of strings");
  app.add_flag("--add-special", options->encode.add_special,
               "Put BOS (or what the model wants) around each text");
  app.add_flag("--spell-special", options->spell,
               "Spell special tokens as text instead of recognising them");
  app.add_flag("--json", options->json, "Print a list of {ids, decoded}");
  app.footer(
      "Examples:\n"
      "  nibble tokenize model.gguf 'Hello world'\n"
      "  nibble tokenize ./SmolLM2 --file texts.json --json");
  return [options] {
    const auto code = run(*options);
    return code ? *code : report(code.error());
  };
}

}  // namespace nibble::cli
