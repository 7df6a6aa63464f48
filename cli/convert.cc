// nibble convert SRC -o OUT: the same weights in a GGUF file, not quantized.
#include <memory>

#include "cli/command.h"
#include "cli/quantize_report.h"

namespace nibble::cli {

Run add_convert(CLI::App& app) {
  auto command = std::make_shared<QuantizeCommand>();
  app.description("Convert a checkpoint into a GGUF file without quantizing it.");
  add_common_options(app, *command);
  command->options.target = "keep";
  app.add_option("--to", command->options.target,
                 "the type of matrices; keep: what they are in the source")
      ->check(CLI::IsMember({"f16", "bf16", "f32", "keep"}, CLI::ignore_case))
      ->capture_default_str();
  app.footer(
      "Examples:\n"
      "  nibble convert ./SmolLM2-135M -o model-f16.gguf --to f16\n"
      "  nibble convert small-00001-of-00003.gguf -o small.gguf");
  return [command] { return run_quantize(*command); };
}

}  // namespace nibble::cli
