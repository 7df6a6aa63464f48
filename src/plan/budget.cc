#include "plan/budget.h"

#include <algorithm>

namespace nibble {
namespace {

/// Indices of the choices on the lower convex hull of (bytes, loss), by growing bytes and falling
/// loss.
std::vector<std::size_t> hull(const std::vector<Choice>& choices) {
  std::vector<std::size_t> order(choices.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const Choice &x = choices[a], &y = choices[b];
    return x.bytes != y.bytes ? x.bytes < y.bytes : x.loss < y.loss;
  });
  const auto slope = [&](std::size_t a, std::size_t b) {
    return (choices[a].loss - choices[b].loss) / double(choices[b].bytes - choices[a].bytes);
  };
  std::vector<std::size_t> out;
  for (const std::size_t i : order) {
    if (!out.empty() && choices[i].bytes == choices[out.back()].bytes) continue;
    if (!out.empty() && choices[i].loss >= choices[out.back()].loss) continue;
    while (out.size() > 1 && slope(out[out.size() - 2], out.back()) <= slope(out.back(), i))
      out.pop_back();
    out.push_back(i);
  }
  return out;
}

}  // namespace

Frontier::Frontier(std::vector<Candidates> matrices) : matrices_(std::move(matrices)) {
  Point point{};
  for (std::size_t m = 0; m < matrices_.size(); ++m) {
    const std::vector<Choice>& choices = matrices_[m].choices;
    NIBBLE_CHECK(!choices.empty());
    const std::vector<std::size_t> best = hull(choices);
    first_.push_back(best.front());
    point.bytes += choices[best.front()].bytes, point.loss += choices[best.front()].loss;
    for (std::size_t i = 1; i < best.size(); ++i) {
      const Choice &from = choices[best[i - 1]], &to = choices[best[i]];
      steps_.push_back({m, best[i], (from.loss - to.loss) / double(to.bytes - from.bytes)});
    }
  }
  // Slopes fall along each hull, so that the steps of one matrix stay in order.
  std::stable_sort(steps_.begin(), steps_.end(),
                   [](const Step& a, const Step& b) { return a.slope > b.slope; });
  points_.push_back(point);
  std::vector<std::size_t> present = first_;
  for (const Step& step : steps_) {
    const Choice& from = matrices_[step.matrix].choices[present[step.matrix]];
    const Choice& to = matrices_[step.matrix].choices[step.choice];
    point.bytes += to.bytes - from.bytes, point.loss += to.loss - from.loss;
    points_.push_back(point);
    present[step.matrix] = step.choice;
  }
}

Assignment Frontier::at(std::size_t steps) const {
  std::vector<std::size_t> present = first_;
  for (std::size_t i = 0; i < steps; ++i) present[steps_[i].matrix] = steps_[i].choice;
  Assignment out;
  for (std::size_t m = 0; m < matrices_.size(); ++m) {
    out.choices.push_back(matrices_[m].choices[present[m]]);
    out.bytes += out.choices.back().bytes, out.loss += out.choices.back().loss;
  }
  return out;
}

Result<Assignment> Frontier::within(std::uint64_t bytes) const {
  if (points_.front().bytes > bytes)
    return fail(ErrorCode::invalid,
                "even the smallest formats need {} bytes for the matrices, and {} are left for "
                "them; allow more, or more formats",
                points_.front().bytes, bytes);
  std::size_t steps = 0;
  while (steps + 1 < points_.size() && points_[steps + 1].bytes <= bytes) ++steps;
  Assignment out = at(steps);
  // The next steps may fit where that one did not, choices off the hull too.
  while (true) {
    const Choice* best = nullptr;
    std::size_t where = 0;
    double most = 0;
    for (std::size_t m = 0; m < matrices_.size(); ++m)
      for (const Choice& choice : matrices_[m].choices) {
        const Choice& present = out.choices[m];
        if (choice.bytes > present.bytes + (bytes - out.bytes)) continue;
        if (!(present.loss - choice.loss > most)) continue;
        best = &choice, where = m, most = present.loss - choice.loss;
      }
    if (!best) return out;
    out.bytes = out.bytes - out.choices[where].bytes + best->bytes;
    out.loss -= most;
    out.choices[where] = *best;
  }
}

Result<Assignment> Frontier::losing(double loss) const {
  std::size_t steps = 0;
  while (steps + 1 < points_.size() && points_[steps].loss > loss) ++steps;
  if (points_[steps].loss > loss)
    return fail(ErrorCode::invalid,
                "even the best formats are expected to lose {:.4g}, more than the {:.4g} allowed",
                points_[steps].loss, loss);
  return at(steps);
}

}  // namespace nibble
