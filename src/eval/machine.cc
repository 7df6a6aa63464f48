#include "eval/machine.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "base/large.h"
#include "kernel/ops.h"

namespace nibble {
namespace {

constexpr std::size_t kWords = std::size_t{256} << 17;  // 256 MB: no cache holds them
constexpr std::size_t kAhead = 256;
constexpr std::int64_t kPieces = 64;
constexpr int kTries = 8;                  // the best counts: others may be using the machine
constexpr std::int64_t kRounds = 1 << 14;  // and so many times more that it takes kLong
constexpr double kLong = 2e-3;             // seconds, beside which waking threads counts little
constexpr std::int64_t kMostRounds = kRounds << 12;

/// Seconds that fn takes on all threads, at best.
template <class Fn>
double seconds(ThreadPool& pool, std::int64_t pieces, const Fn& fn) {
  double best = 0;
  for (int i = 0; i < kTries; ++i) {
    const auto start = std::chrono::steady_clock::now();
    pool.run(pieces, 1, [&](std::int64_t begin, std::int64_t end) {
      for (; begin < end; ++begin) fn(begin);
    });
    const double taken =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (best == 0 || taken < best) best = taken;
  }
  return best;
}

}  // namespace

MachineSpeed measure_machine(ThreadPool& pool) {
  const auto memory = allocate_large(kWords * sizeof(std::uint64_t));  // as the weights are
  auto* const words = reinterpret_cast<std::uint64_t*>(memory.get());
  std::fill_n(words, kWords, 1);
  std::atomic<std::uint64_t> kept = 0;  // so that nobody takes the reading away
  const double reading = seconds(pool, kPieces, [&](std::int64_t piece) {
    std::uint64_t sum[8] = {};
    const std::size_t size = kWords / kPieces, begin = std::size_t(piece) * size;
    for (std::size_t i = begin; i < begin + size; i += 8) {
      __builtin_prefetch(words + i + kAhead);  // beyond what processors fetch by themselves
      for (std::size_t k = 0; k < 8; ++k) sum[k] += words[i + k];
    }
    for (const std::uint64_t each : sum) kept += each;
  });
  const auto operations_per_second = [&](std::int64_t (*peak)(std::int64_t)) {
    std::atomic<std::int64_t> done = 0;
    for (std::int64_t rounds = kRounds;; rounds *= 4) {
      const double taken = seconds(pool, pool.size(), [&](std::int64_t) { done = peak(rounds); });
      if (taken > kLong || rounds >= kMostRounds) return double(done) * pool.size() / taken;
    }
  };
  return {.bytes_per_second = double(kWords * sizeof(std::uint64_t)) / reading,
          .int8_operations_per_second = operations_per_second(ops().peak_int8),
          .bf16_operations_per_second = operations_per_second(ops().peak_bf16)};
}

}  // namespace nibble
