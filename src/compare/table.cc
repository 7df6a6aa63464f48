#include "compare/table.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/human.h"
#include "compare/verdict.h"

namespace nibble {
namespace {

using Report = CompareReport;
using Row = ComparedModel;

constexpr const char* kNothing = "\xe2\x80\x93";  // an en dash

const Column kSize = {"size", "",
                      [](const Report& r, const Row& m) {
                        const double share = double(m.bytes) / double(r.original.bytes);
                        return fmt::format("{} ({:.0f}%)", human_bytes(m.bytes), 100 * share);
                      },
                      [](const Report&, const Row& m) { return double(m.bytes); }};

const Column kBits = {"bits per weight", "", [](const Report&, const Row& m) {
                        return fmt::format("{:.2f}", m.bits_per_weight);
                      }};

const Column kPerplexity = {"perplexity", "", [](const Report&, const Row& m) {
                              if (!m.perplexity) return std::string();
                              const Measured& p = *m.perplexity;
                              if (p.standard_error == 0) return fmt::format("{:.2f}", p.value);
                              return fmt::format("{:.2f} ± {:.2f}", p.value, p.standard_error);
                            }};

const Column kDivergence = {"KL divergence", "nats a token",
                            [](const Report&, const Row& m) {
                              if (!m.divergence) return std::string();
                              const Measured& kld = m.divergence->kld;
                              if (kld.value == 0) return std::string("0");
                              const int digits = kld.value < 0.01 ? 5 : 4;
                              return fmt::format("{:.{}f} ± {:.{}f}", kld.value, digits,
                                                 kld.standard_error, digits);
                            },
                            [](const Report&, const Row& m) { return m.divergence->kld.value; }};

const Column kSameTop = {
    "same top token", "%",
    [](const Report&, const Row& m) {
      return m.divergence ? fmt::format("{:.1f}", 100 * m.divergence->same_top.value) : "";
    },
    [](const Report&, const Row& m) { return -m.divergence->same_top.value; }};

const Column kTask = {"your questions", "% right",
                      [](const Report&, const Row& m) {
                        if (!m.task) return std::string();
                        return fmt::format("{:.1f} ± {:.1f}", 100 * m.task->accuracy.value,
                                           100 * m.task->accuracy.standard_error);
                      },
                      [](const Report&, const Row& m) { return -m.task->accuracy.value; }};

const Column kReply = {
    "reply", "s",
    [](const Report& r, const Row& m) { return fmt::format("{:.2f}", reply_time(r, m).typical); },
    [](const Report& r, const Row& m) { return reply_time(r, m).typical; }};

const Column kFirstToken = {
    "first token", "s",
    [](const Report& r, const Row& m) { return fmt::format("{:.2f}", first_token(r, m)); },
    [](const Report& r, const Row& m) { return first_token(r, m); }};

const Column kFromStart = {
    "with loading", "s",
    [](const Report&, const Row& m) { return fmt::format("{:.2f}", m.speed->first_token_seconds); },
    [](const Report&, const Row& m) { return m.speed->first_token_seconds; }};

const Column kDecode = {
    "generates", "tokens/s",
    [](const Report&, const Row& m) {
      return fmt::format("{:.1f}", m.speed->decode.tokens_per_second);
    },
    [](const Report&, const Row& m) { return -m.speed->decode.tokens_per_second; }};

const Column kPrefill = {
    "reads", "tokens/s",
    [](const Report&, const Row& m) {
      return fmt::format("{:.0f}", m.speed->prefill.tokens_per_second);
    },
    [](const Report&, const Row& m) { return -m.speed->prefill.tokens_per_second; }};

const Column kMadeIn = {"made in", "", [](const Report&, const Row& m) {
                          return m.recipe.empty() ? "" : human_seconds(m.seconds);
                        }};

bool complete(const Row& model) { return model.error.empty() && model.speed; }

}  // namespace

std::vector<Column> all_columns(const CompareReport& report) {
  std::vector<Column> out = {kSize, kBits};
  if (!report.options.evaluate.text.empty())
    out.insert(out.end(), {kPerplexity, kDivergence, kSameTop});
  if (!report.options.task.empty()) out.push_back(kTask);
  out.insert(out.end(), {kFirstToken, kFromStart, kDecode, kPrefill});
  if (!report.options.targets.empty()) out.push_back(kMadeIn);
  return out;
}

std::vector<Column> chat_columns(const CompareReport& report) {
  std::vector<Column> out = {kReply, kFirstToken, kDecode};
  if (!report.options.evaluate.text.empty()) out.insert(out.end(), {kDivergence, kSameTop});
  if (!report.options.task.empty()) out.push_back(kTask);
  out.push_back(kSize);
  return out;
}

std::string cell(const Column& column, const CompareReport& report, const ComparedModel& model) {
  const std::string text = complete(model) ? column.show(report, model) : "";
  return text.empty() ? kNothing : text;
}

bool is_best(const Column& column, const CompareReport& report, const ComparedModel& model) {
  if (!column.cost || !complete(model) || &model == &report.original) return false;
  const double cost = column.cost(report, model);
  bool some_worse = false;
  for (const Row* other : measured_models(report)) {
    if (column.cost(report, *other) < cost) return false;
    some_worse = some_worse || column.cost(report, *other) > cost;
  }
  return some_worse;
}

std::vector<const ComparedModel*> by_reply_time(const CompareReport& report) {
  std::vector<const ComparedModel*> out = measured_models(report);
  std::stable_sort(out.begin(), out.end(), [&](const Row* a, const Row* b) {
    return reply_time(report, *a).typical < reply_time(report, *b).typical;
  });
  return out;
}

std::string chat_verdict(const CompareReport& report, const ComparedModel& model) {
  if (!model.divergence) return "quality not measured";
  const ComparedModel* better = beaten_by(report, model, false);
  return better ? "beaten by " + better->name : "a choice";
}

}  // namespace nibble
