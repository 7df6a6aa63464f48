#include <algorithm>
#include <cmath>
#include <limits>

#include "graph/runtime.h"

namespace nibble {
namespace {

struct Candidate {
  std::uint32_t token;
  float logit;
  double weight;  // exp(logit - best logit)
};

bool better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

std::uint32_t best_of(std::span<const float> logits) {
  return std::uint32_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

/// splitmix64 (Steele, Lea, Flood 2014): a number in [0, 1).
double next_uniform(std::uint64_t& state) {
  std::uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return double((z ^ z >> 31) >> 11) * 0x1p-53;
}

double total(const std::vector<Candidate>& candidates) {
  double sum = 0;
  for (const Candidate& c : candidates) sum += c.weight;
  return sum;
}

/// The fewest best candidates whose probabilities reach `top_p`, best first.
void keep_top_p(std::vector<Candidate>& candidates, double top_p) {
  const double sum = total(candidates);
  // Candidates below this weight hold less than 1 - top_p together, so they are never reached.
  const double least = (1 - top_p) * sum / double(candidates.size());
  std::erase_if(candidates, [&](const Candidate& c) { return c.weight < least; });
  std::sort(candidates.begin(), candidates.end(), better);
  double reached = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    reached += candidates[i].weight;
    if (reached >= top_p * sum) {
      candidates.resize(i + 1);
      return;
    }
  }
}

}  // namespace

Sampler::Sampler(const SamplerOptions& options) : options_(options), state_(options.seed) {}

void Sampler::accept(std::uint32_t token) {
  if (options_.repetition_penalty == 1 || options_.penalty_window <= 0) return;
  if (recent_.size() >= std::size_t(options_.penalty_window)) recent_.erase(recent_.begin());
  recent_.push_back(token);
}

/// The logits with penalties and bias; minus infinity is what may not be picked.
std::span<const float> Sampler::change(std::span<const float> logits,
                                       std::span<const std::uint32_t> allowed) {
  if (recent_.empty() && picked_.empty() && options_.bias.empty() && allowed.empty()) return logits;
  changed_.assign(logits.begin(), logits.end());
  for (const std::uint32_t token : recent_) {  // each once, however often it occurs
    if (token >= logits.size()) continue;
    const float logit = logits[token], penalty = options_.repetition_penalty;
    changed_[token] = logit > 0 ? logit / penalty : logit * penalty;
  }
  for (const auto& [token, count] : picked_)
    changed_[token] -= options_.presence_penalty + options_.frequency_penalty * float(count);
  for (const auto& [token, bias] : options_.bias)
    if (token < logits.size()) changed_[token] += bias;
  for (std::size_t i = 0; i < logits.size() && !allowed.empty(); ++i)
    if (i / 32 >= allowed.size() || (allowed[i / 32] >> (i % 32) & 1) == 0)
      changed_[i] = -std::numeric_limits<float>::infinity();
  return changed_;
}

std::uint32_t Sampler::draw(std::span<const float> logits) {
  const float best = *std::max_element(logits.begin(), logits.end());
  const double min_p = std::min(1.0f, options_.min_p);  // the best one always stays
  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (std::isfinite(logits[i]))
      candidates.push_back({std::uint32_t(i), logits[i], std::exp(double(logits[i]) - best)});
  const auto top_k = std::size_t(std::max(0, options_.top_k));
  if (top_k > 0 && top_k < candidates.size()) {
    std::nth_element(candidates.begin(), candidates.begin() + std::ptrdiff_t(top_k) - 1,
                     candidates.end(), better);
    candidates.resize(top_k);
    std::sort(candidates.begin(), candidates.end(), better);  // no order of the library's own
  }
  if (options_.top_p < 1) keep_top_p(candidates, std::max(0.0f, options_.top_p));
  std::erase_if(candidates, [&](const Candidate& c) { return c.weight < min_p; });
  for (Candidate& c : candidates)
    c.weight = std::exp((double(c.logit) - best) / double(options_.temperature));
  double left = next_uniform(state_) * total(candidates);
  for (const Candidate& c : candidates)
    if ((left -= c.weight) < 0) return c.token;
  return candidates.back().token;  // only if rounding ate the last candidate's share
}

std::uint32_t Sampler::pick(std::span<const float> logits, std::span<const std::uint32_t> allowed) {
  const auto scores = change(logits, allowed);
  const std::uint32_t token = options_.temperature > 0 ? draw(scores) : best_of(scores);
  accept(token);
  if (options_.presence_penalty != 0 || options_.frequency_penalty != 0) ++picked_[token];
  return token;
}

}  // namespace nibble
