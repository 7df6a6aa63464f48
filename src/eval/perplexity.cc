// Perplexity and divergence over a text, all models in lockstep: no file of logits is ever needed.
#include <algorithm>
#include <chrono>
#include <cmath>

#include "arch/arch.h"
#include "base/file.h"
#include "base/hash.h"
#include "eval/metrics.h"
#include "graph/runtime.h"
#include "nibble/evaluate.h"
#include "text/tokenizer.h"

namespace nibble {
namespace {

/// Scores of every predicted token so far.
struct Scores {
  std::vector<double> nll, reference_nll, log_ratio, kld, same_top;
};

struct Loaded {
  std::string path;
  Model model;
  std::unique_ptr<Runtime> runtime = nullptr;
  std::unique_ptr<Session> session = nullptr;
  Scores scores{};

  static Result<Loaded> open(const std::string& path) {
    NIBBLE_TRY(Model model, Model::open(path));
    return Loaded{path, std::move(model)};
  }

  Status load(const EvaluateOptions& options, const std::string& cache, Progress& progress) {
    const RuntimeOptions runtime_options{
        .threads = options.threads,
        .precision = options.fast ? Precision::fast : Precision::exact,
        .cache = cache};
    NIBBLE_TRY_IN(path, runtime, Runtime::load(model, runtime_options, progress));
    session = std::make_unique<Session>(*runtime, options.context);
    return {};
  }
};

/// The windows of a text: which tokens, and from which position on the next token is scored.
struct Windows {
  std::vector<Token> tokens;
  std::uint64_t count = 0;
  std::uint32_t context = 0;
  std::uint32_t first = 0;   // position `first` is the first whose prediction counts
  std::optional<Token> bos;  // put in place of each window's first token

  std::vector<Token> window(std::uint64_t index) const {
    const auto begin = tokens.begin() + std::ptrdiff_t(index * context);
    std::vector<Token> out(begin, begin + context);
    if (bos) out[0] = *bos;
    return out;
  }
};

Result<Windows> cut(const Tokenizer& tokenizer, const std::string& text,
                    const EvaluateOptions& options) {
  const bool plain = options.procedure == Procedure::plain;
  Windows w;
  w.context = options.context;
  w.first = plain ? 0 : options.context / 2;
  // llama-perplexity spells special tokens as text, and puts BOS over the first token of each
  // window.
  NIBBLE_TRY_IN(options.text, w.tokens,
                tokenizer.encode(text, {.add_special = !plain, .parse_special = plain}));
  if (!plain && tokenizer.adds_bos()) w.bos = tokenizer.bos();
  w.count = w.tokens.size() / w.context;
  if (w.count == 0)
    return fail(ErrorCode::invalid,
                "{}: {} tokens, fewer than one window of {}; give a longer text or a smaller --ctx",
                options.text, w.tokens.size(), w.context);
  if (options.chunks > 0) w.count = std::min(w.count, options.chunks);
  return w;
}

/// Tokens a step: enough to keep the products busy, few enough that two sets of logits stay below
/// 256 MB.
std::uint32_t step_tokens(std::uint32_t vocab) {
  return std::clamp<std::uint32_t>((32u << 20) / std::max(1u, vocab), 8, 256);
}

/// Feeds window[begin, begin + n) to a model and scores what it predicts to follow, against the
/// reference's logits if there are any.
Status score_step(std::span<const Token> window, std::uint32_t begin, std::uint32_t n,
                  std::span<const float> reference, Loaded& model) {
  const std::size_t vocab = model.model.config().vocab;
  NIBBLE_TRY(const auto logits,
             model.session->forward(window.subspan(begin, n), Session::Logits::all));
  std::vector<Comparison> results(n);
  model.runtime->pool().run(n, 1, [&](std::int64_t i, std::int64_t) {
    const std::size_t k = std::size_t(i);
    const auto row = logits.subspan(k * vocab, vocab);
    const Token next = window[begin + k + 1];
    if (reference.empty())
      results[k].nll = negative_log_likelihood(row, next);
    else
      results[k] = compare_logits(row, reference.subspan(k * vocab, vocab), next);
  });
  Scores& scores = model.scores;
  for (const Comparison& c : results) {
    scores.nll.push_back(c.nll);
    if (reference.empty()) continue;
    scores.reference_nll.push_back(c.reference_nll);
    scores.log_ratio.push_back(c.nll - c.reference_nll);
    scores.kld.push_back(c.kld);
    scores.same_top.push_back(c.same_top ? 1 : 0);
  }
  return {};
}

Status start_window(std::span<const Token> unscored, Loaded& loaded) {
  loaded.session->truncate(0);
  if (unscored.empty()) return {};
  NIBBLE_TRY([[maybe_unused]] const auto none,
             loaded.session->forward(unscored, Session::Logits::none));
  return {};
}

Status score_window(std::span<const Token> window, std::uint32_t first, std::span<Loaded> models,
                    Loaded* reference) {
  for (Loaded& model : models) NIBBLE_DO(start_window(window.first(first), model));
  if (reference) NIBBLE_DO(start_window(window.first(first), *reference));
  const std::uint32_t last = std::uint32_t(window.size()) - 1,
                      step = step_tokens(models[0].model.config().vocab);
  for (std::uint32_t begin = first; begin < last; begin += step) {
    const std::uint32_t n = std::min(step, last - begin);
    std::span<const float> logits;
    if (reference) {
      NIBBLE_TRY(logits,
                 reference->session->forward(window.subspan(begin, n), Session::Logits::all));
    }
    for (Loaded& model : models) NIBBLE_DO(score_step(window, begin, n, logits, model));
  }
  return {};
}

Divergence divergence_of(Scores& scores) {
  Divergence d;
  d.reference_perplexity = std::exp(mean_of(scores.reference_nll).value);
  d.perplexity_ratio = exp_of(mean_of(scores.log_ratio));
  d.kld = mean_of(scores.kld);
  d.same_top = mean_of(scores.same_top);
  std::sort(scores.kld.begin(), scores.kld.end());
  d.kld_median = quantile(scores.kld, 0.5);
  d.kld_p99 = quantile(scores.kld, 0.99);
  d.kld_max = scores.kld.back();
  return d;
}

Status check_vocabulary(const Loaded& model, const Loaded& other) {
  const std::uint32_t vocab = model.model.config().vocab, other_vocab = other.model.config().vocab;
  if (vocab == other_vocab) return {};
  return fail(ErrorCode::invalid,
              "{} has {} tokens in its vocabulary and {} has {}: they can't be compared",
              model.path, vocab, other.path, other_vocab);
}

Evaluation evaluation_of(Loaded& model, const Windows& windows, bool compared) {
  Scores& scores = model.scores;
  Evaluation out;
  out.model = model.path;
  out.windows = windows.count;
  out.tokens = scores.nll.size();
  out.perplexity = exp_of(mean_of(scores.nll));
  if (compared) out.divergence = divergence_of(scores);
  return out;
}

}  // namespace

Result<std::vector<Evaluation>> evaluate(const EvaluateOptions& options, Progress& progress) {
  const auto start = std::chrono::steady_clock::now();
  if (options.context < 4)
    return fail(ErrorCode::invalid, "a window of {} tokens is too short; use at least 4",
                options.context);
  if (options.models.empty()) return fail(ErrorCode::invalid, "no model to evaluate");
  NIBBLE_TRY(const std::string text, read_text(options.text));
  // What can be wrong is looked at before the weights, which take their time.
  std::vector<Loaded> models;
  for (const std::string& path : options.models) {
    NIBBLE_TRY(Loaded opened, Loaded::open(path));
    models.push_back(std::move(opened));
    NIBBLE_DO(check_vocabulary(models[0], models.back()));
  }
  std::optional<Loaded> reference;
  if (!options.reference.empty()) {
    NIBBLE_TRY(reference, Loaded::open(options.reference));
    NIBBLE_DO(check_vocabulary(models[0], *reference));
  }
  NIBBLE_TRY_IN(options.models[0], const Tokenizer tokenizer,
                Tokenizer::open(models[0].model.source()));
  NIBBLE_TRY(const Windows windows, cut(tokenizer, text, options));
  for (Loaded& model : models) NIBBLE_DO(model.load(options, options.cache, progress));
  if (reference) NIBBLE_DO(reference->load(options, "", progress));
  progress.begin("evaluating", windows.count, "windows");
  for (std::uint64_t i = 0; i < windows.count; ++i) {
    if (progress.cancelled())
      return fail(ErrorCode::cancelled, "stopped after {} of {} windows", i, windows.count);
    NIBBLE_DO(
        score_window(windows.window(i), windows.first, models, reference ? &*reference : nullptr));
    progress.update(i + 1);
  }
  progress.end();
  Sha256 hash;
  hash.update(std::as_bytes(std::span(text)));
  const std::string text_sha256 = hash.hex();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::vector<Evaluation> results;
  for (Loaded& model : models) {
    results.push_back(evaluation_of(model, windows, reference.has_value()));
    results.back().seconds = seconds, results.back().text_sha256 = text_sha256;
  }
  return results;
}

}  // namespace nibble
