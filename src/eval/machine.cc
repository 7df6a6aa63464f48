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
constexpr int kTries = 8;  // the best counts: others may be using the machine
constexpr std::int64_t kRounds = 1 << 20;

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
  std::atomic<std::int64_t> done = 0;
  const double products =
      seconds(pool, pool.size(), [&](std::int64_t) { done = ops().peak_int8(kRounds); });
  return {.bytes_per_second = double(kWords * sizeof(std::uint64_t)) / reading,
          .int8_operations_per_second = double(done) * pool.size() / products};
}

}  // namespace nibble
