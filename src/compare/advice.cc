// The figures in sentences. Each is computed; where there is nothing to say, there is no sentence.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "base/human.h"
#include "compare/verdict.h"

namespace nibble {
namespace {

using Models = std::vector<const ComparedModel*>;

double kld(const ComparedModel& model) { return model.divergence->kld.value; }

std::string joined(const Models& models, const char* last = " and ") {
  std::string out;
  for (std::size_t i = 0; i < models.size(); ++i)
    out += (i == 0 ? "" : i + 1 == models.size() ? last : ", ") + models[i]->name;
  return out;
}

/// The models that differ from the best one by no more than the errors of measurement.
std::string equals(const Models& models, const ComparedModel& best, const char* what,
                   const std::function<int(const ComparedModel&)>& order) {
  Models same;
  for (const ComparedModel* model : models)
    if (model != &best && order(*model) == 0) same.push_back(model);
  if (same.empty()) return "";
  return fmt::format(" {} {} not measurably {}.", joined(same), same.size() == 1 ? "is" : "are",
                     what);
}

std::string best_quality(const CompareReport& report, const Models& models) {
  const auto better = [](const auto* a, const auto* b) { return kld(*a) < kld(*b); };
  const ComparedModel& best = **std::min_element(models.begin(), models.end(), better);
  return fmt::format(
             "Nearest to the original: {}, KL divergence {:.2g} nats a token, the same top token "
             "{:.1f}% of the time, in {} ({:.0f}% of the original's bytes).",
             best.name, kld(best), 100 * best.divergence->same_top.value, human_bytes(best.bytes),
             100.0 * double(best.bytes) / double(report.original.bytes)) +
         equals(models, best, "worse",
                [&](const ComparedModel& model) { return by_quality(best, model); });
}

std::string best_for_size(const CompareReport& report) {
  const Models frontier = size_frontier(report);
  const auto turn = bend(frontier);
  if (!turn) return "";
  const ComparedModel &best = *frontier[*turn], &smaller = *frontier[*turn - 1],
                      &larger = *frontier[*turn + 1];
  return fmt::format(
      "Most quality for its size: {}, {} at KL divergence {:.2g}. The next larger choice, {}, "
      "costs {} more and has {:.2g} times the divergence; the next smaller, {}, saves {} and has "
      "{:.2g} times.",
      best.name, human_bytes(best.bytes), kld(best), larger.name,
      human_bytes(larger.bytes - best.bytes), kld(larger) / kld(best), smaller.name,
      human_bytes(best.bytes - smaller.bytes), kld(smaller) / kld(best));
}

std::string fastest(const CompareReport& report, const Models& models) {
  const auto quicker = [&](const auto* a, const auto* b) {
    return reply_time(report, *a).typical < reply_time(report, *b).typical;
  };
  const ComparedModel& best = **std::min_element(models.begin(), models.end(), quicker);
  const BenchmarkOptions& speed = report.options.speed;
  return fmt::format(
             "Fastest here: {}, {:.0f} tokens/s where the original makes {:.0f}; a reply of {} "
             "tokens to a prompt of {} takes {:.1f} s, of which {:.2f} s pass before the first "
             "token.",
             best.name, best.speed->decode.tokens_per_second,
             report.original.speed->decode.tokens_per_second, speed.generated_tokens,
             speed.prompt_tokens, reply_time(report, best).typical, first_token(report, best)) +
         equals(models, best, "slower",
                [&](const ComparedModel& model) { return by_speed(report, best, model); });
}

std::string for_a_chat(const CompareReport& report, const Models& models) {
  Models choices;
  for (const ComparedModel* model : models)
    if (!beaten_by(report, *model, false)) choices.push_back(model);
  if (choices.size() == models.size() || choices.empty()) return "";
  if (choices.size() == 1)
    return fmt::format(
        "For a chat, by latency and quality: {}. None of the others is faster or "
        "nearer to the original.",
        choices.front()->name);
  return fmt::format(
      "For a chat, by latency and quality: {}, whichever of the two counts more. Each of the "
      "others "
      "is beaten in one and no better in the other.",
      joined(choices, " or "));
}

std::string beaten(const CompareReport& report, const Models& models) {
  std::string out;
  for (const ComparedModel* model : models)
    if (const ComparedModel* by = beaten_by(report, *model, true))
      out += fmt::format("{}{} by {}", out.empty() ? "" : ", ", model->name, by->name);
  return out.empty()
             ? ""
             : "Beaten, being no smaller, no faster and no nearer to the original: " + out + ".";
}

std::string best_at_task(const CompareReport& report, const Models& models) {
  if (!report.original.task) return "";
  const auto right = [](const ComparedModel* model) { return model->task->accuracy.value; };
  const double most =
      right(*std::max_element(models.begin(), models.end(),
                              [&](const auto* a, const auto* b) { return right(a) < right(b); }));
  Models best;
  for (const ComparedModel* model : models)
    if (right(model) == most) best.push_back(model);
  return fmt::format("Your questions: {} answered {:.0f}% of {} as expected, the original {:.0f}%.",
                     joined(best), 100 * most, report.original.task->items.size(),
                     100 * report.original.task->accuracy.value);
}

}  // namespace

std::vector<std::string> compare_advice(const CompareReport& report) {
  const Models models = measured_models(report);
  std::vector<std::string> out;
  if (models.empty()) return out;
  const bool quality = models.front()->divergence.has_value();
  if (quality) {
    out.push_back(best_quality(report, models));
    out.push_back(best_for_size(report));
  } else {
    out.push_back("Quality was not measured: that takes a text the models have not seen (--text).");
  }
  out.push_back(fastest(report, models));
  out.push_back(best_at_task(report, models));
  if (quality) {
    out.push_back(for_a_chat(report, models));
    out.push_back(beaten(report, models));
  }
  std::erase(out, "");
  return out;
}

}  // namespace nibble
