#include "base/threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace nibble {
namespace {

// One word says all about the current job: bit 0 whether threads may join it, bits 1 to 10 how many
// threads are in it, the rest the job's number. Number 0 is the end of the pool.
using Word = std::uint32_t;
constexpr Word kOpen = 1, kMember = 2, kMembers = 0x7fe, kJob = 0x800, kMaxThreads = 1023;

void relax_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A layer of a small model is a dozen loops of some 20 us each, and waking a sleeping thread takes
// as long: threads look for the next loop that long before they sleep. More would only take the
// core from other programs.
constexpr std::chrono::microseconds kPatience{60};

/// Waits until ready(word's value); returns that value.
template <class Ready>
Word wait_for(const std::atomic<Word>& word, bool patient, Ready ready) {
  Word value = word.load(std::memory_order_acquire);
  if (ready(value)) return value;
  if (patient) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    do {
      for (int i = 0; i < 32; ++i) {
        relax_cpu();
        if (ready(value = word.load(std::memory_order_acquire))) return value;
      }
    } while (std::chrono::steady_clock::now() < end);
  }
  while (!ready(value)) {
    word.wait(value, std::memory_order_acquire);
    value = word.load(std::memory_order_acquire);
  }
  return value;
}

}  // namespace

struct ThreadPool::State {
  std::atomic<Word> word{0};
  Word number = 0;                                // of the last job
  const std::function<void(int)>* job = nullptr;  // what the open job calls
  bool patient = false;
  std::vector<std::thread> threads;

  void work(int worker) {
    Word seen = ~Word{0};
    for (;;) {
      Word now = wait_for(word, patient, [&](Word w) { return (w & kOpen) && w / kJob != seen; });
      if (now / kJob == 0) return;
      if (!word.compare_exchange_weak(now, now + kMember, std::memory_order_acquire)) continue;
      seen = now / kJob;
      (*job)(worker);
      // The last to leave a closed job wakes the caller.
      if ((word.fetch_sub(kMember, std::memory_order_release) & (kMembers | kOpen)) == kMember)
        word.notify_all();
    }
  }

  /// Lets threads join job `n`. Only when the last one is closed and has no members.
  void open(Word n) {
    word.store(n * kJob + kOpen, std::memory_order_release);
    word.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  const int cores = int(std::max(1u, std::thread::hardware_concurrency()));
  if (threads < 1) threads = cores;
  threads = std::min(threads, int(kMaxThreads));
  state_->patient = threads <= cores;
  for (int i = 1; i < threads; ++i) state_->threads.emplace_back([this, i] { state_->work(i); });
}

ThreadPool::~ThreadPool() {
  state_->open(0);
  for (auto& thread : state_->threads) thread.join();
}

int ThreadPool::size() const { return int(state_->threads.size()) + 1; }

void ThreadPool::run_all(const std::function<void(int)>& fn) {
  if (state_->threads.empty()) return fn(0);
  constexpr Word kNumbers = ~Word{0} / kJob;
  state_->number = state_->number % (kNumbers - 1) + 1;
  state_->job = &fn;
  state_->open(state_->number);
  fn(0);
  state_->word.fetch_and(~kOpen, std::memory_order_relaxed);
  wait_for(state_->word, state_->patient, [](Word w) { return (w & kMembers) == 0; });
}

void ThreadPool::run(std::int64_t n, std::int64_t grain,
                     const std::function<void(std::int64_t, std::int64_t)>& fn) {
  grain = std::max<std::int64_t>(1, grain);
  if (n <= grain || state_->threads.empty()) {
    for (std::int64_t i = 0; i < n; i += grain) fn(i, std::min(n, i + grain));
    return;
  }
  std::atomic<std::int64_t> next{0};
  run_all([&](int) {
    for (std::int64_t i = next.fetch_add(grain); i < n; i = next.fetch_add(grain))
      fn(i, std::min(n, i + grain));
  });
}

}  // namespace nibble
