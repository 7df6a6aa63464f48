#include "compare/verdict.h"

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

constexpr double kStandardErrors = 2;
constexpr double kSameTime = 1.03;  // of a reply: what is slower than that is not as fast

double largest(const std::vector<double>& rates) {
  return *std::max_element(rates.begin(), rates.end());
}
double smallest(const std::vector<double>& rates) {
  return *std::min_element(rates.begin(), rates.end());
}

}  // namespace

double first_token(const CompareReport& report, const ComparedModel& model) {
  return report.options.speed.prompt_tokens / model.speed->prefill.tokens_per_second;
}

ReplyTime reply_time(const CompareReport& report, const ComparedModel& model) {
  const BenchmarkReport& speed = *model.speed;
  const auto seconds = [&](double prefill, double decode) {
    return report.options.speed.prompt_tokens / prefill +
           report.options.speed.generated_tokens / decode;
  };
  return {seconds(speed.prefill.tokens_per_second, speed.decode.tokens_per_second),
          seconds(largest(speed.prefill.rounds), largest(speed.decode.rounds)),
          seconds(smallest(speed.prefill.rounds), smallest(speed.decode.rounds))};
}

std::vector<const ComparedModel*> measured_models(const CompareReport& report) {
  std::vector<const ComparedModel*> out;
  for (const ComparedModel& model : report.models)
    if (model.error.empty()) out.push_back(&model);
  return out;
}

int by_quality(const ComparedModel& a, const ComparedModel& b) {
  if (!a.divergence || !b.divergence) return 0;
  const Measured &x = a.divergence->kld, &y = b.divergence->kld;
  const double noise = kStandardErrors * std::hypot(x.standard_error, y.standard_error);
  return x.value < y.value - noise ? -1 : y.value < x.value - noise ? 1 : 0;
}

int by_speed(const CompareReport& report, const ComparedModel& a, const ComparedModel& b) {
  const ReplyTime x = reply_time(report, a), y = reply_time(report, b);
  return x.most < y.least ? -1 : y.most < x.least ? 1 : 0;
}

const ComparedModel* beaten_by(const CompareReport& report, const ComparedModel& model, bool size) {
  const ComparedModel* best = nullptr;
  for (const ComparedModel* other : measured_models(report)) {
    if (other == &model || !other->divergence) continue;
    // Rounds that overlap because the machine was busy prove nothing.
    if (reply_time(report, *other).typical > kSameTime * reply_time(report, model).typical)
      continue;
    const int bytes = other->bytes < model.bytes ? -1 : other->bytes > model.bytes ? 1 : 0;
    const int each[] = {by_quality(*other, model), by_speed(report, *other, model),
                        size ? bytes : 0};
    if (*std::max_element(std::begin(each), std::end(each)) > 0) continue;
    if (*std::min_element(std::begin(each), std::end(each)) == 0) continue;
    if (!best || other->divergence->kld.value < best->divergence->kld.value) best = other;
  }
  return best;
}

std::vector<const ComparedModel*> size_frontier(const CompareReport& report) {
  std::vector<const ComparedModel*> all = measured_models(report), out;
  std::erase_if(all, [](const ComparedModel* model) { return !model->divergence; });
  const auto kld = [](const ComparedModel* model) { return model->divergence->kld.value; };
  std::stable_sort(all.begin(), all.end(), [&](const ComparedModel* a, const ComparedModel* b) {
    return a->bytes != b->bytes ? a->bytes < b->bytes : kld(a) < kld(b);
  });
  for (const ComparedModel* model : all)
    if (out.empty() || kld(model) < kld(out.back())) out.push_back(model);
  return out;
}

std::optional<std::size_t> bend(const std::vector<const ComparedModel*>& frontier) {
  if (frontier.size() < 3) return {};
  const auto height = [&](std::size_t i) {
    return std::log(std::max(frontier[i]->divergence->kld.value, 1e-9));
  };
  const std::size_t last = frontier.size() - 1;
  const double begin = double(frontier.front()->bytes), end = double(frontier[last]->bytes);
  std::optional<std::size_t> lowest;
  double most = 0;
  for (std::size_t i = 1; i < last; ++i) {
    const double along = (double(frontier[i]->bytes) - begin) / (end - begin);
    const double below = height(0) + along * (height(last) - height(0)) - height(i);
    if (below > most) most = below, lowest = i;
  }
  return lowest;
}

}  // namespace nibble
