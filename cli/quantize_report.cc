#include "cli/quantize_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "base/file.h"
#include "cli/command.h"
#include "cli/frontier.h"
#include "container/hub.h"

namespace nibble::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kNamesShown = 4;

Json to_json(const QuantizeReport& report, bool dry_run) {
  Json out;
  if (!dry_run) out["output"] = report.output;
  if (report.files.size() > 1) out["files"] = report.files;
  out.update({{"target", report.target},
              {"recipe", report.recipe},
              {"architecture", report.architecture},
              {"parameters", report.parameters},
              {"bytes", report.bytes},
              {"tensor_bytes", report.tensor_bytes},
              {"source_tensor_bytes", report.source_bytes},
              {"bits_per_weight", report.bits_per_weight}});
  if (!dry_run)
    out.update({{"seconds", report.seconds}, {"peak_memory_bytes", report.peak_memory_bytes}});
  if (const auto& budget = report.budget) {
    Json& each =
        out["budget"] = {{"predicted_kld", budget->predicted}, {"frontier", Json::array()}};
    if (budget->measured) each["measured_kld"] = *budget->measured;
    for (const BudgetReport::Point& point : budget->frontier)
      each["frontier"].push_back({{"bytes", point.bytes}, {"predicted_kld", point.predicted}});
  }
  if (const auto& q = report.quality)
    out["quality"] = {{"reference_perplexity", q->reference_perplexity},
                      {"perplexity", q->perplexity},
                      {"kld", q->kld},
                      {"tokens", q->tokens},
                      {"text", q->text}};
  for (const PhaseTime& phase : report.profile)
    out["profile"].push_back({{"phase", phase.name},
                              {"seconds", phase.seconds},
                              {"flops", phase.flops},
                              {"openblas_flops", phase.best_flops}});
  out["tensors"] = Json::array();
  for (const QuantizedTensor& tensor : report.tensors) {
    Json each = {{"name", tensor.name},          {"shape", tensor.shape},
                 {"from", tensor.source_format}, {"format", tensor.format},
                 {"wanted", tensor.wanted},      {"bytes", tensor.bytes}};
    if (!tensor.reason.empty()) each["reason"] = tensor.reason;
    if (tensor.exact) each["exact"] = true;
    if (tensor.squared_weight > 0)
      each.update({{"squared_error", tensor.squared_error},
                   {"weighted_error", tensor.weighted_error},
                   {"squared_weight", tensor.squared_weight}});
    if (const auto& f = tensor.feedback)
      each["feedback"] = {{"shrinkage", f->shrinkage},
                          {"held_out_error", f->error},
                          {"held_out_error_alone", f->error_alone},
                          {"correction", f->correction}};
    if (tensor.feedback && !tensor.feedback->fallback.empty())
      each["feedback"]["fallback"] = tensor.feedback->fallback;
    out["tensors"].push_back(std::move(each));
  }
  return out;
}

/// A line a tensor; sizes of errors relative to the weights once there are any.
void print_tensors(const QuantizeReport& report) {
  for (const QuantizedTensor& tensor : report.tensors) {
    std::string line = fmt::format("{:<36} {:>16}  {:>6} -> {:<7} {:>12} bytes", tensor.name,
                                   fmt::format("{}", fmt::join(tensor.shape, " x ")),
                                   tensor.source_format, tensor.format, tensor.bytes);
    if (tensor.squared_weight > 0)
      line += fmt::format("  relative error {:.2e}", tensor.squared_error / tensor.squared_weight);
    if (const auto& f = tensor.feedback; f && f->error_alone > 0)
      line += fmt::format("  held-out error {:.3f} of importance rounding's (shrinkage {:.1f})",
                          f->error / f->error_alone, f->shrinkage);
    if (tensor.feedback && tensor.feedback->correction > 0)
      line += fmt::format(", {:.0f}% corrected", 100 * tensor.feedback->correction);
    if (!tensor.reason.empty()) line += "  (" + tensor.reason + ")";
    fmt::print("{}\n", line);
  }
}

/// How much of the model did not get what was asked for because of its width.
void print_forced(const QuantizeReport& report) {
  std::uint64_t forced = 0;
  std::map<std::string, std::size_t> kinds;
  for (const QuantizedTensor& tensor : report.tensors) {
    if (tensor.wanted == tensor.format) continue;
    std::uint64_t elements = 1;
    for (const std::uint64_t n : tensor.shape) elements *= n;
    forced += elements;
    ++kinds[fmt::format("{} columns: {} -> {}", tensor.shape.back(), tensor.wanted, tensor.format)];
  }
  if (kinds.empty()) return;
  fmt::print("{:.1f}% of the weights have rows that do not fit the blocks wanted:\n",
             100.0 * double(forced) / double(report.parameters));
  for (const auto& [kind, count] : kinds)
    fmt::print("  {} ({} tensor{})\n", kind, count, count == 1 ? "" : "s");
}

/// Where error feedback was wanted and importance rounding was taken.
void print_fallbacks(const QuantizeReport& report) {
  std::map<std::string, std::vector<std::string>> names;
  for (const QuantizedTensor& tensor : report.tensors)
    if (tensor.feedback && !tensor.feedback->fallback.empty())
      names[tensor.feedback->fallback].push_back(tensor.name);
  for (const auto& [reason, tensors] : names)
    fmt::print(
        "{} without error feedback, since {}: {}{}\n",
        tensors.size() == 1 ? "1 matrix" : fmt::format("{} matrices", tensors.size()), reason,
        fmt::join(tensors.begin(),
                  tensors.begin() + std::ptrdiff_t(std::min(tensors.size(), kNamesShown)), ", "),
        tensors.size() > kNamesShown ? ", ..." : "");
}

void print(const QuantizeReport& report, const QuantizeCommand& command) {
  if (command.dry_run || command.verbose) print_tensors(report);
  print_forced(report);
  print_fallbacks(report);
  if (report.budget) print_frontier(report);
  fmt::print("{}: {} -> {} bytes ({}), {:.3f} bits per weight\n", report.recipe,
             human_bytes(report.source_bytes), report.bytes, human_bytes(report.bytes),
             report.bits_per_weight);
  if (command.dry_run) return;
  if (const auto& q = report.quality)
    fmt::print("perplexity {:.4f} -> {:.4f}, KL divergence {:.5f}, on {} tokens of {}\n",
               q->reference_perplexity, q->perplexity, q->kld, q->tokens, q->text);
  const bool directory = report.output != report.files.front();
  fmt::print("{} in {}, peak memory {}\n",
             directory ? report.output : fmt::format("{}", fmt::join(report.files, "\n")),
             human_seconds(report.seconds), human_bytes(report.peak_memory_bytes));
  for (const PhaseTime& phase : report.profile) {
    fmt::print("  {:<16} {:>8} {:5.1f}%", phase.name, human_seconds(phase.seconds),
               100 * phase.seconds / report.seconds);
    if (phase.best_flops > 0)
      fmt::print("  {:6.1f} GFLOP/s, {:.0f}% of OpenBLAS", phase.flops * 1e-9,
                 100 * phase.flops / phase.best_flops);
    fmt::print("\n");
  }
}

}  // namespace

void add_common_options(CLI::App& app, QuantizeCommand& command) {
  QuantizeOptions& options = command.options;
  app.add_option("SRC", options.source, "GGUF file, Hugging Face directory, or org/name of a hub")
      ->required();
  app.add_option("-o,--output", options.output,
                 "the GGUF file to write, or the directory of a Hugging Face checkpoint");
  app.add_option("--override", options.overrides,
                 "REGEX=FORMAT: matrices whose name the pattern is found in; the first match wins")
      ->allow_extra_args(false)
      ->take_all();
  add_bytes(app, "--split", options.split_bytes, "start a new file before this many bytes");
  app.add_option("--threads", options.threads, "threads to use (default: one a core)")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--dry-run", command.dry_run, "show what every tensor becomes, write nothing");
  app.add_flag("--force", options.force, "replace an existing output");
  app.add_flag("--json", command.json, "one JSON document on standard output");
  app.add_flag("-v,--verbose", command.verbose, "a line a tensor, with its error");
}

int run_quantize(const QuantizeCommand& command) {
  ConsoleProgress progress;
  QuantizeOptions options = command.options;
  auto source = resolve_source(options.source, {}, progress);
  if (!source) return report(source.error());
  options.source = std::move(*source);
  const auto result = command.dry_run ? plan_quantize(options) : quantize(options, progress);
  if (!result) return report(result.error());
  if (!command.plot.empty() && result->budget) {
    if (const auto drawn = write_text(command.plot, frontier_svg(*result)); !drawn)
      return report(drawn.error());
  }
  if (command.json) return print_json(to_json(*result, command.dry_run));
  print(*result, command);
  return kExitOk;
}

}  // namespace nibble::cli
