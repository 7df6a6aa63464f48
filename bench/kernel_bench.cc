// Speed of the products, one thread: bytes of weights a second for one token (GB/s, to hold against
// the Stream lines) and operations a second for 48 tokens (2 a weight and token), per format and
// instruction set; and of attention and the other operations.
//   kernel_bench --benchmark_filter=Many/q4_0/avx2
#include <benchmark/benchmark.h>

#include <cmath>
#include <vector>

#include "base/cpu.h"
#include "eval/machine.h"
#include "kernel/ops.h"
#include "random_matrix.h"

namespace nibble {
namespace {

void product(benchmark::State& bench, const Format* format, const Kernel* kernel,
             std::int64_t tokens, Precision precision) {
  if (!isa_runs(kernel->isa)) return bench.SkipWithError("not supported by this processor");
  // One token: weights larger than the caches. Many: a layer.
  const std::int64_t rows = tokens == 1 ? 32768 : 1024;
  const Matrix matrix = random_matrix(*format, rows, kernel->isa);
  std::vector<float> x(std::size_t(tokens * kColumns)), out(std::size_t(tokens * rows));
  std::uint32_t state = 1;
  for (float& value : x) value = noise(state);
  ThreadPool pool(1);
  Input input(x.data(), tokens, kColumns, precision);
  for (auto _ : bench) {
    input.multiply(matrix, nullptr, out.data(), rows, pool);
    benchmark::DoNotOptimize(out.data());
  }
  const double runs = double(bench.iterations());
  bench.counters["GB/s"] =
      benchmark::Counter(double(matrix.bytes()) * runs * 1e-9, benchmark::Counter::kIsRate);
  bench.counters["GOP/s"] = benchmark::Counter(
      2e-9 * double(rows) * double(kColumns) * double(tokens) * runs, benchmark::Counter::kIsRate);
}

/// What the memory gives one thread.
void stream(benchmark::State& bench) {
  ThreadPool pool(1);
  for (auto _ : bench) bench.counters["GB/s"] = measure_machine(pool).bytes_per_second * 1e-9;
}

void attention(benchmark::State& bench, const CacheOps& cache, std::int64_t tokens) {
  constexpr int kGroup = 3, kDim = 64;
  constexpr std::int64_t kPosition = 512;
  const auto part = std::size_t(cache_part_bytes(cache, kDim));
  std::uint32_t state = 1;
  std::vector<float> q(std::size_t(tokens * kGroup * kDim)), out(q.size());
  std::vector<std::uint8_t> memory(kPosition / kPagePositions * 2 * part);  // keys, then values
  for (float& x : q) x = noise(state);
  std::vector<const std::uint8_t*> pages;
  for (std::int64_t p = 0; p < kPosition; ++p) {
    float key[kDim], value[kDim];
    for (int d = 0; d < kDim; ++d) key[d] = noise(state), value[d] = noise(state);
    std::uint8_t* page = memory.data() + std::size_t(p / kPagePositions) * 2 * part;
    cache.store(key, value, kDim, page, page + part, p % kPagePositions);
    if (p % kPagePositions == 0) pages.push_back(page);
  }
  std::vector<float> scratch(std::size_t(attend_scratch(tokens, kGroup, kDim, kPosition - tokens)));
  const AttendArgs args{.q = q.data(),
                        .out = out.data(),
                        .q_stride = kGroup * kDim,
                        .out_stride = kGroup * kDim,
                        .pages = pages.data(),
                        .key_offset = 0,
                        .value_offset = std::int64_t(part),
                        .position = kPosition - tokens,
                        .tokens = tokens,
                        .window = 0,
                        .group = kGroup,
                        .head_dim = kDim,
                        .scale = 0.125f,
                        .cap = 0,
                        .scratch = scratch.data()};
  for (auto _ : bench) {
    cache.attend(&args);
    benchmark::DoNotOptimize(out.data());
  }
  bench.counters["GOP/s"] = benchmark::Counter(
      4e-9 * double(tokens * kGroup * kDim * kPosition) * double(bench.iterations()),
      benchmark::Counter::kIsRate);
}

void quantize(benchmark::State& bench) {
  std::vector<float> x(8192);
  std::uint32_t state = 1;
  for (float& value : x) value = noise(state);
  std::vector<std::int8_t> codes(x.size());
  std::vector<float> scales(x.size() / 32);
  std::vector<std::int32_t> sums(x.size() / 16);
  for (auto _ : bench) {
    ops().quantize_input(x.data(), std::int64_t(x.size()), 32, codes.data(), scales.data(),
                         sums.data());
    benchmark::DoNotOptimize(codes.data());
  }
  bench.counters["Gvalues/s"] = benchmark::Counter(
      double(x.size()) * double(bench.iterations()) * 1e-9, benchmark::Counter::kIsRate);
}

void register_products() {
  for (const Format* format : all_formats())
    for (const Kernel* kernel : kernel_registry()) {
      if (kernel->packing != Packing::f32) continue;  // one line an instruction set
      const std::string name = std::string(format->id()) + "/" + kernel->isa;
      benchmark::RegisterBenchmark(("One/" + name).c_str(), product, format, kernel, 1,
                                   Precision::fast);
      benchmark::RegisterBenchmark(("Many/" + name).c_str(), product, format, kernel, 48,
                                   Precision::fast);
      if (format->layout().scales != Layout::Scales::none)
        benchmark::RegisterBenchmark(("Exact/" + name).c_str(), product, format, kernel, 48,
                                     Precision::exact);
    }
}

}  // namespace
}  // namespace nibble

int main(int argc, char** argv) {
  benchmark::RegisterBenchmark("Stream", nibble::stream)->Iterations(1);
  nibble::register_products();
  for (const nibble::CacheOps& cache : nibble::ops().caches)
    for (const int tokens : {1, 16})
      benchmark::RegisterBenchmark(
          ("Attend/" + std::string(cache.type) + "/" + std::to_string(tokens)).c_str(),
          nibble::attention, cache, tokens);
  benchmark::RegisterBenchmark("QuantizeInput", nibble::quantize);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
