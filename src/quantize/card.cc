#include "quantize/card.h"

#include <fmt/format.h>

#include <filesystem>

#include "nibble/version.h"

namespace nibble {
namespace {

std::string name_of(const std::string& path) {
  std::error_code ignored;
  const auto canonical = std::filesystem::weakly_canonical(path, ignored);
  return (ignored ? std::filesystem::path(path) : canonical).filename().string();
}

/// Names come from users: as code, so that nothing in them is Markdown or HTML.
std::string code(const std::string& text) {
  std::string out;
  for (const char c : text)
    if (c != '`' && static_cast<unsigned char>(c) >= ' ') out += c;
  return "`" + out + "`";
}

std::string how_to_load(const Scheme& scheme, const std::string& name) {
  if (scheme.library() == "mlx")
    return fmt::format(
        "```sh\n{}\npython -m mlx_lm generate --model ./{} --prompt \"Hello\"\n```\n",
        scheme.install(), name);
  return fmt::format(
      "```python\n"
      "# {0}\n"
      "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
      "model = AutoModelForCausalLM.from_pretrained(\"./{1}\", dtype=\"auto\")\n"
      "tokenizer = AutoTokenizer.from_pretrained(\"./{1}\")\n"
      "```\n",
      scheme.install(), name);
}

std::string quality(const QuantizeReport& report) {
  if (!report.quality)
    return "Quality was not measured: `nibble eval` measures it against the source.\n";
  const QualityReport& q = *report.quality;
  return fmt::format(
      "| | perplexity | KL divergence (nats a token) |\n|---|---|---|\n"
      "| source | {:.4f} | |\n| this checkpoint | {:.4f} | {:.5f} |\n\n"
      "Measured on {} tokens of {} that error feedback did not see, from the files here, with "
      "activations in float32 except where the scheme itself rounds them.\n",
      q.reference_perplexity, q.perplexity, q.kld, q.tokens, code(q.text));
}

std::string row(const char* what, const std::string& value) {
  return fmt::format("| {} | {} |\n", what, value);
}

std::string origin(const Job& job, const QuantizeReport& report) {
  std::string out = "| | |\n|---|---|\n";
  out += row("source", code(name_of(job.checkpoint->source().path())));
  for (const std::string& each : job.source_sha256)
    out += row(job.source_sha256.size() == 1 ? "its SHA-256" : "SHA-256 of its files", code(each));
  out += row("recipe", code(report.recipe));
  out += row("nibble", std::string(version()));
  if (job.windows) {
    const std::string text = code(name_of(job.windows->name));
    out += row("calibration", fmt::format("{} tokens of {}", job.windows->tokens(), text));
    out += row("its SHA-256", code(job.windows->sha256));
  }
  if (job.importance) {
    out += row("importance", code(name_of(job.importance->name)));
    out += row("its SHA-256", code(job.importance->sha256));
  }
  out += row("size", fmt::format("{} bytes, {:.3f} bits a weight", report.bytes,
                                 8 * double(report.bytes) / double(report.parameters)));
  return out;
}

}  // namespace

std::string model_card(const Job& job, const QuantizeOptions& options,
                       const QuantizeReport& report) {
  const std::string& target = job.plan.target.text;
  const Scheme& scheme = *find_scheme(target.substr(0, target.find(':')));
  const std::string name = name_of(options.output);
  return fmt::format(
      "---\nlibrary_name: {}\npipeline_tag: text-generation\ntags:\n- nibble\n- {}\n---\n\n"
      "# {}\n\n{} in {}, made with nibble.\n\n## Quality\n\n{}\n## How it was made\n\n{}\n"
      "## How to load it\n\n{}",
      scheme.library(), scheme.name(), code(name), code(name_of(job.checkpoint->source().path())),
      code(target), quality(report), origin(job, report), how_to_load(scheme, name));
}

}  // namespace nibble
