#include "serve/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace nibble {
namespace {

struct CountOf {
  const char *name, *help;
  std::uint64_t SchedulerCounts::*value;
};
constexpr CountOf kCounts[] = {
    {"nibble_requests_total", "Requests that were taken", &SchedulerCounts::requests},
    {"nibble_requests_refused_total", "Requests beyond the queue", &SchedulerCounts::refused},
    {"nibble_sequences_cancelled_total", "Sequences whose client went away",
     &SchedulerCounts::cancelled},
    {"nibble_prompt_tokens_total", "Tokens of prompts that were computed",
     &SchedulerCounts::prompt_tokens},
    {"nibble_prompt_tokens_reused_total", "Tokens of prompts that were in the cache",
     &SchedulerCounts::reused_tokens},
    {"nibble_generated_tokens_total", "Tokens generated", &SchedulerCounts::generated_tokens},
    {"nibble_steps_total", "Passes over the weights", &SchedulerCounts::steps}};

struct LevelOf {
  const char *name, *help;
  std::size_t SchedulerCounts::*value;
};
constexpr LevelOf kLevels[] = {
    {"nibble_sequences_active", "Sequences that advance", &SchedulerCounts::active},
    {"nibble_sequences_waiting", "Sequences in the queue", &SchedulerCounts::waiting},
    {"nibble_cache_pages", "Pages of the key-value cache in use", &SchedulerCounts::pages}};

}  // namespace

std::string metrics_text(const ModelTable& models) {
  prometheus::Registry registry;
  for (const ModelEntry& entry : models.entries()) {
    if (!entry.loaded) continue;
    const SchedulerCounts counts = entry.loaded->scheduler().counts();
    const prometheus::Labels labels = {{"model", entry.name}};
    for (const CountOf& each : kCounts)
      prometheus::BuildCounter()
          .Name(each.name)
          .Help(each.help)
          .Register(registry)
          .Add(labels)
          .Increment(double(counts.*each.value));
    for (const LevelOf& each : kLevels)
      prometheus::BuildGauge().Name(each.name).Help(each.help).Register(registry).Add(labels).Set(
          double(counts.*each.value));
    prometheus::BuildGauge()
        .Name("nibble_model_bytes")
        .Help("Weights, and caches when they are full")
        .Register(registry)
        .Add(labels)
        .Set(double(entry.loaded->bytes()));
  }
  return prometheus::TextSerializer().Serialize(registry.Collect());
}

}  // namespace nibble
