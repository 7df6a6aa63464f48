// Weights a second, one thread, of every rounder in every format: loading aside, all of a matrix's
// way (search, packing, decoding back, errors).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "round/rounder.h"

namespace nibble {
namespace {

void round_matrix(benchmark::State& state, const Rounder& rounder, const Format& format) {
  constexpr std::int64_t kRows = 128, kColumns = 2048;
  static const std::vector<float> weights = [] {
    std::vector<float> w(std::size_t(kRows * kColumns));
    std::mt19937 random(1);
    std::student_t_distribution<float> heavy(6);
    for (float& x : w) x = 0.05f * heavy(random);
    return w;
  }();
  static const std::vector<float> importance = [] {
    std::vector<float> h(kColumns);
    std::mt19937 random(2);
    std::lognormal_distribution<float> skewed(0, 1);
    for (float& x : h) x = skewed(random);
    return h;
  }();
  std::vector<std::byte> out(std::size_t(kRows) * format.row_bytes(kColumns));
  ThreadPool pool(1);
  RoundTask task;
  task.rows = kRows;
  task.columns = kColumns;
  task.format = &format;
  task.stats.mean_square = importance;
  task.out = out;
  task.load = [&](std::int64_t begin, std::int64_t end, float* to) {
    std::copy(weights.begin() + begin * kColumns, weights.begin() + end * kColumns, to);
  };
  for (auto _ : state)
    if (const auto report = rounder.round(task, pool); !report)
      return state.SkipWithError(report.error().message().c_str());
  state.SetItemsProcessed(state.iterations() * kRows * kColumns);
}

}  // namespace
}  // namespace nibble

int main(int argc, char** argv) {
  for (const nibble::Rounder* rounder : nibble::round_registry())
    for (const nibble::Format* format : nibble::all_formats())
      benchmark::RegisterBenchmark(
          (std::string(rounder->id()) + "/" + std::string(format->id())).c_str(),
          [=](benchmark::State& state) { nibble::round_matrix(state, *rounder, *format); });
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
