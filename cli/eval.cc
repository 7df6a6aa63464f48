// nibble eval: what a model costs in quality.
#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "cli/command.h"
#include "container/hub.h"
#include "nibble/evaluate.h"

namespace nibble::cli {
namespace {

using OrderedJson = nlohmann::ordered_json;

struct Options {
  EvaluateOptions text;
  std::string choices, task, procedure = "plain";
  std::uint64_t limit = 0;
  bool json = false, answers = false;
};

void add_model(OrderedJson& out, const Evaluation& e) {
  out["model"] = e.model;
  out["tokens"] = e.tokens;
  out["perplexity"] = e.perplexity.value;
  out["perplexity_se"] = e.perplexity.standard_error;
  if (const auto& d = e.divergence) {
    out["reference_perplexity"] = d->reference_perplexity;
    out["perplexity_ratio"] = d->perplexity_ratio.value;
    out["perplexity_ratio_se"] = d->perplexity_ratio.standard_error;
    out["kld_mean"] = d->kld.value;
    out["kld_mean_se"] = d->kld.standard_error;
    out["kld_median"] = d->kld_median;
    out["kld_p99"] = d->kld_p99;
    out["kld_max"] = d->kld_max;
    out["same_top"] = d->same_top.value;
    out["same_top_se"] = d->same_top.standard_error;
  }
}

/// One model's figures lie beside the text's; several make a list.
void add_text(OrderedJson& out, const std::vector<Evaluation>& results, const Options& options) {
  out["text"] = options.text.text;
  out["text_sha256"] = results[0].text_sha256;
  out["procedure"] = options.procedure;
  out["context"] = options.text.context;
  out["windows"] = results[0].windows;
  if (!options.text.reference.empty()) out["reference"] = options.text.reference;
  if (results.size() == 1) {
    add_model(out, results[0]);
  } else {
    out["models"] = OrderedJson::array();
    for (const Evaluation& e : results) add_model(out["models"].emplace_back(), e);
  }
  out["seconds"] = results[0].seconds;
}

std::string percent(const Measured& m) {
  return fmt::format("{:.2f}% ± {:.2f}", 100 * m.value, 100 * m.standard_error);
}

void print_row(const char* name, const std::string& value) {
  fmt::print("{:<18} {}\n", name, value);
}

std::string with_error(const Measured& m) {
  return fmt::format("{:.5g} ± {:.2g}", m.value, m.standard_error);
}

void print_one(const Evaluation& e, const Options& options) {
  print_row("perplexity", with_error(e.perplexity));
  const auto& d = e.divergence;
  if (!d) return;
  print_row("reference",
            fmt::format("{:.5g} ({})", d->reference_perplexity, options.text.reference));
  print_row("perplexity ratio", with_error(d->perplexity_ratio));
  print_row("KL divergence",
            fmt::format("{} nats a token (median {:.4g}, 99% {:.4g}, max {:.4g})",
                        with_error(d->kld), d->kld_median, d->kld_p99, d->kld_max));
  print_row("same top token", percent(d->same_top));
}

void print_table(const std::vector<Evaluation>& results, const Options& options) {
  if (const auto& d = results[0].divergence)
    print_row("reference",
              fmt::format("{:.5g} ({})", d->reference_perplexity, options.text.reference));
  fmt::print("\n{:>18} {:>20} {:>16}  {}\n", "perplexity", "KL divergence", "same top", "model");
  for (const Evaluation& e : results) {
    const auto& d = e.divergence;
    fmt::print("{:>18} {:>20} {:>16}  {}\n", with_error(e.perplexity), d ? with_error(d->kld) : "-",
               d ? percent(d->same_top) : "-", e.model);
  }
}

Result<void> run_text(const Options& options, OrderedJson& out, Progress& progress) {
  const auto results = evaluate(options.text, progress);
  if (!results) return tl::unexpected<Error>(results.error());
  add_text(out, *results, options);
  if (options.json) return {};
  const Evaluation& first = results->front();
  print_row("text",
            fmt::format("{}, {} windows of {} tokens, {} scored ({} procedure)", options.text.text,
                        first.windows, options.text.context, first.tokens, options.procedure));
  if (results->size() == 1)
    print_one(first, options);
  else
    print_table(*results, options);
  return {};
}

TaskOptions task_options(const Options& options, const std::string& file) {
  return {.model = options.text.models[0],
          .file = file,
          .limit = options.limit,
          .threads = options.text.threads,
          .fast = options.text.fast,
          .cache = options.text.cache};
}

Result<void> run_choices(const Options& options, OrderedJson& out, Progress& progress) {
  const auto result = evaluate_choices(task_options(options, options.choices), progress);
  if (!result) return tl::unexpected<Error>(result.error());
  out["choices"] = {{"file", options.choices},
                    {"items", result->items},
                    {"accuracy", result->accuracy.value},
                    {"accuracy_se", result->accuracy.standard_error},
                    {"accuracy_normalized", result->accuracy_normalized.value},
                    {"accuracy_normalized_se", result->accuracy_normalized.standard_error}};
  if (!options.json)
    fmt::print("{:<18} {} of {} items, by length {}\n", "choices", percent(result->accuracy),
               result->items, percent(result->accuracy_normalized));
  return {};
}

Result<void> run_task(const Options& options, OrderedJson& out, Progress& progress) {
  const auto result = evaluate_task(task_options(options, options.task), progress);
  if (!result) return tl::unexpected<Error>(result.error());
  OrderedJson items = OrderedJson::array();
  for (const auto& item : result->items)
    items.push_back({{"prompt", item.prompt},
                     {"expected", item.expected},
                     {"answer", item.answer},
                     {"right", item.right}});
  out["task"] = {{"file", options.task},
                 {"accuracy", result->accuracy.value},
                 {"accuracy_se", result->accuracy.standard_error},
                 {"items", items}};
  if (options.json) return {};
  fmt::print("{:<18} {} of {} items\n", "task", percent(result->accuracy), result->items.size());
  if (options.answers)
    for (const auto& item : result->items)
      fmt::print("  {} {} -> {}\n", item.right ? "right" : "wrong", item.prompt, item.answer);
  return {};
}

Result<void> resolve_models(EvaluateOptions& options, Progress& progress) {
  const auto resolve = [&](std::string& path) -> Result<void> {
    auto resolved = resolve_source(path, {}, progress);
    if (!resolved) return tl::unexpected<Error>(resolved.error());
    path = *resolved;
    return {};
  };
  for (std::string& path : options.models)
    if (const auto status = resolve(path); !status) return status;
  return options.reference.empty() ? Result<void>{} : resolve(options.reference);
}

Result<void> run_all(Options& options, OrderedJson& out) {
  const auto refuse = [](const char* why) {
    return tl::unexpected<Error>(Error(ErrorCode::invalid, why));
  };
  if (options.text.text.empty() && options.choices.empty() && options.task.empty())
    return refuse("nothing to evaluate: give --text FILE, --choices FILE or --task FILE");
  if (!options.text.reference.empty() && options.text.text.empty())
    return refuse("--ref compares on a text: give --text FILE too");
  if (options.text.models.size() > 1 && !(options.choices.empty() && options.task.empty()))
    return refuse("--choices and --task take one model at a time");
  ConsoleProgress progress;
  Result<void> status = resolve_models(options.text, progress);
  options.text.procedure = options.procedure == "plain" ? Procedure::plain : Procedure::llama_cpp;
  if (options.text.models.size() == 1) out["model"] = options.text.models[0];
  if (status && !options.text.text.empty()) status = run_text(options, out, progress);
  if (status && !options.choices.empty()) status = run_choices(options, out, progress);
  if (status && !options.task.empty()) status = run_task(options, out, progress);
  return status;
}

}  // namespace

Run add_eval(CLI::App& app) {
  app.description(
      "Measure quality: perplexity of a text, divergence from a reference model, questions.");
  const auto options = std::make_shared<Options>();
  EvaluateOptions& text = options->text;
  app.add_option("model", text.models,
                 "GGUF file, Hugging Face directory or org/name; with --text also several")
      ->required();
  app.add_option("--text", text.text, "UTF-8 text to score");
  app.add_option("--ref", text.reference,
                 "Reference model, run in lockstep: KL divergence, same top token");
  app.add_option("--procedure", options->procedure,
                 "plain: windows without BOS, every token but the first scored; llama.cpp: as "
                 "llama-perplexity, "
                 "second half of each window scored")
      ->check(CLI::IsMember({"plain", "llama.cpp"}))
      ->capture_default_str();
  app.add_option("--ctx", text.context, "Tokens a window")
      ->check(CLI::Range(4, 1 << 20))
      ->capture_default_str();
  app.add_option("--chunks", text.chunks, "Windows at most; 0: the whole text")
      ->capture_default_str();
  app.add_option("--choices", options->choices,
                 "Multiple choice as JSONL: context, endings, label (HellaSwag and its like)");
  app.add_option("--task", options->task,
                 "Your own questions as JSONL: prompt, expected, match (exact, contains, regex)");
  app.add_option("--limit", options->limit, "Items of --choices and --task at most; 0: all")
      ->capture_default_str();
  app.add_flag("--answers", options->answers, "Show the answers to --task");
  app.add_flag("--fast", text.fast,
               "Round activations to 8 bits, as running does; default: float32");
  add_cache(app, text.cache, ", with --fast f16; the reference keeps that default");
  add_threads(app, text.threads);
  app.add_flag("--json", options->json, "Print one JSON object");
  app.footer(
      "Examples:\n"
      "  nibble eval small.gguf --text wiki.txt --ref ./SmolLM2 --chunks 40\n"
      "  nibble eval Q4_K_M.gguf Q3_K_M.gguf Q2_K.gguf --text wiki.txt --ref ./SmolLM2\n"
      "  nibble eval small.gguf --text wiki.txt --procedure llama.cpp\n"
      "  nibble eval small.gguf --text wiki.txt --ref small.gguf --fast --cache q4_0\n"
      "  nibble eval small.gguf --choices hellaswag.jsonl --limit 200\n"
      "  nibble eval small.gguf --task mine.jsonl --answers");
  return [options] {
    OrderedJson out;
    if (const auto status = run_all(*options, out); !status) return report(status.error());
    return options->json ? print_json(out) : kExitOk;
  };
}

}  // namespace nibble::cli
