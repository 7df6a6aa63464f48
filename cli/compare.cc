// nibble compare: several ways of making a model smaller, side by side.
#include "nibble/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "base/file.h"
#include "base/jsonl.h"
#include "cli/command.h"
#include "container/hub.h"

namespace nibble::cli {
namespace {

using OrderedJson = nlohmann::ordered_json;

struct Options {
  CompareOptions compare;
  std::vector<std::string> more_files;  // given as --file
  std::string prompts, report, markdown;
  bool json = false, force = false;
};

/// A line each, or JSONL of {"prompt": ...}.
Status read_prompts(const std::string& path, std::vector<std::string>& prompts) {
  if (path.ends_with(".jsonl")) {
    NIBBLE_TRY(const auto items, read_jsonl(path, 0));
    for (std::size_t i = 0; i < items.size(); ++i) {
      NIBBLE_TRY_IN(fmt::format("{}: item {}", path, i + 1), std::string prompt,
                    json_string(items[i], "prompt"));
      prompts.push_back(std::move(prompt));
    }
    return {};
  }
  NIBBLE_TRY(const std::string text, read_text(path));
  const std::size_t before = prompts.size();
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.find_first_not_of(" \t") != std::string::npos) prompts.push_back(line);
  }
  if (prompts.size() == before) return fail(ErrorCode::invalid, "{}: no prompts in it", path);
  return {};
}

OrderedJson to_json(const ComparedModel& model) {
  OrderedJson out = {{"model", model.name},
                     {"path", model.path},
                     {"bytes", model.bytes},
                     {"bits_per_weight", model.bits_per_weight}};
  if (!model.error.empty()) out["error"] = model.error;
  if (!model.recipe.empty()) out.update({{"recipe", model.recipe}, {"seconds", model.seconds}});
  if (const auto& p = model.perplexity) out["perplexity"] = p->value;
  if (const auto& d = model.divergence)
    out.update({{"perplexity_se", model.perplexity->standard_error},
                {"perplexity_ratio", d->perplexity_ratio.value},
                {"kld_mean", d->kld.value},
                {"kld_mean_se", d->kld.standard_error},
                {"kld_median", d->kld_median},
                {"kld_p99", d->kld_p99},
                {"kld_max", d->kld_max},
                {"same_top", d->same_top.value},
                {"same_top_se", d->same_top.standard_error}});
  if (const auto& s = model.speed)
    out.update({{"load_seconds", s->load_seconds},
                {"first_token_seconds", s->first_token_seconds},
                {"prefill_tokens_per_second", s->prefill.tokens_per_second},
                {"decode_tokens_per_second", s->decode.tokens_per_second}});
  if (const auto& task = model.task)
    out.update({{"task_accuracy", task->accuracy.value},
                {"task_accuracy_se", task->accuracy.standard_error}});
  if (!model.answers.empty()) out["answers"] = model.answers;
  if (model.matrices.empty()) return out;
  out["rescaled"] = model.rescaled;
  for (const MatrixError& matrix : model.matrices) {
    OrderedJson& each = out["matrices"].emplace_back();
    each = {{"role", matrix.role}, {"format", matrix.format}, {"error", matrix.relative}};
    if (matrix.layer >= 0) each["layer"] = matrix.layer;
  }
  return out;
}

OrderedJson to_json(const CompareReport& report, const Options& options) {
  OrderedJson out = {{"architecture", report.architecture}, {"parameters", report.parameters}};
  if (!report.text_sha256.empty())
    out.update({{"text", report.options.evaluate.text},
                {"text_sha256", report.text_sha256},
                {"context", report.options.evaluate.context},
                {"windows", report.windows},
                {"tokens", report.tokens}});
  if (report.original.speed)
    out.update({{"isa", report.original.speed->isa},
                {"threads", report.original.speed->threads},
                {"prompt_tokens", report.options.speed.prompt_tokens},
                {"generated_tokens", report.options.speed.generated_tokens}});
  if (!report.options.prompts.empty()) out["prompts"] = report.options.prompts;
  out["original"] = to_json(report.original);
  out["models"] = OrderedJson::array();
  for (const ComparedModel& model : report.models) out["models"].push_back(to_json(model));
  out["advice"] = compare_advice(report);
  if (!options.report.empty()) out["report"] = options.report;
  return out;
}

/// Everything that can be refused before anything is measured.
Status prepare(Options& options, Progress& progress) {
  CompareOptions& compare = options.compare;
  compare.files.insert(compare.files.end(), options.more_files.begin(), options.more_files.end());
  NIBBLE_TRY(compare.source, resolve_source(compare.source, {}, progress));
  for (std::string& file : compare.files) {
    NIBBLE_TRY(file, resolve_source(file, {}, progress));
  }
  for (const std::string& place : {options.report, options.markdown})
    if (!place.empty()) NIBBLE_DO(check_place(place, compare.source));
  if (!options.prompts.empty()) NIBBLE_DO(read_prompts(options.prompts, compare.prompts));
  const std::filesystem::path beside = std::filesystem::path(options.report).parent_path();
  compare.scratch = options.report.empty() ? std::filesystem::temp_directory_path().string()
                    : beside.empty()       ? "."
                                           : beside.string();
  return {};
}

std::size_t failed(const CompareReport& report) {
  return std::size_t(
      std::count_if(report.models.begin(), report.models.end(),
                    [](const ComparedModel& model) { return !model.error.empty(); }));
}

Result<CompareReport> run(Options& options) {
  ConsoleProgress progress;
  NIBBLE_DO(prepare(options, progress));
  NIBBLE_TRY(CompareReport report, compare(options.compare, progress));
  if (failed(report) == report.models.size()) {
    const ComparedModel& first = report.models.front();
    return fail(ErrorCode::invalid, "{}: {}", first.name, first.error);
  }
  if (!options.report.empty()) NIBBLE_DO(write_text(options.report, compare_html(report)));
  if (!options.markdown.empty()) NIBBLE_DO(write_text(options.markdown, compare_markdown(report)));
  return report;
}

int show(const CompareReport& report, const Options& options) {
  int code = kExitOk;
  if (options.json)
    code = print_json(to_json(report, options));
  else
    fmt::print("{}", compare_markdown(report));
  return code == kExitOk && failed(report) > 0 ? kExitSome : code;
}

void add_options(CLI::App& app, Options& options) {
  CompareOptions& compare = options.compare;
  app.add_option("SRC", compare.source,
                 "the original: GGUF file, Hugging Face directory, or org/name")
      ->required();
  app.add_option("FILES", compare.files, "finished models to compare, of the same kinds");
  app.add_option("--file", options.more_files, "the same, one at a time")
      ->allow_extra_args(false)
      ->take_all();
  app.add_option(
         "--to", compare.targets,
         "what to quantize SRC to, as in `nibble quantize --to`; may be given several times")
      ->allow_extra_args(false)
      ->take_all();
  app.add_option("-o,--output", options.report,
                 "the report: one HTML page that needs nothing else");
  app.add_option("--markdown", options.markdown, "a file for what is printed otherwise");
  app.add_flag("--json", options.json, "one JSON document on standard output");
  app.add_option("--text", compare.evaluate.text,
                 "held-out text for perplexity, KL divergence and same top token");
  app.add_option("--ctx", compare.evaluate.context, "tokens a window of that text")
      ->check(CLI::Range(4, 1 << 20))
      ->capture_default_str();
  app.add_option("--chunks", compare.evaluate.chunks, "windows at most; 0: the whole text")
      ->capture_default_str();
  app.add_option("--task", compare.task,
                 "your own questions as JSONL: prompt, expected, match (exact, contains, regex)");
  app.add_option("--prompt", compare.prompts,
                 "a prompt that all models answer; may be given several times")
      ->allow_extra_args(false)
      ->take_all();
  app.add_option("--prompts", options.prompts, "a file of prompts, one a line; or JSONL of prompt");
  app.add_option("--answer-tokens", compare.answer_tokens, "tokens an answer at most")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
}

void add_making(CLI::App& app, Options& options) {
  CompareOptions& compare = options.compare;
  app.add_option("--recipe", compare.quantize.recipe, "for all targets, as in `nibble quantize`");
  app.add_flag("--fast", compare.quantize.fast, "importance rounding instead of error feedback");
  app.add_option("--calib", compare.quantize.calibration,
                 "calibration text or importance matrix for all targets");
  app.add_option("--calib-chunks", compare.quantize.calibration_chunks,
                 "windows of 512 tokens of that text; 0: as many as `nibble quantize` takes")
      ->capture_default_str();
  app.add_option("--keep", compare.keep,
                 "a directory for the models made; without it they are removed at the end");
  app.add_flag("--force", compare.quantize.force, "replace models that are there already");
  app.add_option("--rounds", compare.speed.rounds, "rounds of the measurement of speed")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--bench-prompt", compare.speed.prompt_tokens, "tokens it reads")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--bench-tokens", compare.speed.generated_tokens, "tokens it generates")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  add_threads(app, compare.threads);
}

}  // namespace

Run add_compare(CLI::App& app) {
  app.description("Quantize in several ways and compare size, quality, speed and answers.");
  const auto options = std::make_shared<Options>();
  add_options(app, *options);
  add_making(app, *options);
  app.footer(
      "A target that cannot be made, or a model that cannot be measured, is reported, and the "
      "rest\n"
      "goes on; the exit code is then 3 (2 where nothing succeeded).\n"
      "Examples:\n"
      "  nibble compare ./SmolLM2 --to Q8_0 --to Q4_K_M --to Q2_K --text held_out.txt -o "
      "report.html\n"
      "  nibble compare ./SmolLM2 --to Q4_K_M --recipe gptq --calib train.txt --text held_out.txt "
      "\\\n"
      "      --prompt 'Why does bread rise?' -o report.html --keep models\n"
      "  nibble compare ./SmolLM2 a.gguf ./SmolLM2-GPTQ --text held_out.txt --chunks 40 \\\n"
      "      --task mine.jsonl --prompts prompts.txt -o report.html\n"
      "  nibble compare ./SmolLM2 *.gguf --text held_out.txt --json");
  return [options] {
    const auto result = run(*options);
    return result ? show(*result, *options) : report(result.error());
  };
}

}  // namespace nibble::cli
