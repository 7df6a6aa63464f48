#include "base/threads.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace nibble {

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable wake, done;
  const std::function<void(int)>* job = nullptr;
  std::uint64_t generation = 0;
  int running = 0;
  bool stop = false;
  std::vector<std::thread> threads;

  void work(int worker) {
    std::uint64_t seen = 0;
    for (;;) {
      std::unique_lock lock(mutex);
      wake.wait(lock, [&] { return stop || generation != seen; });
      if (stop) return;
      seen = generation;
      const auto* fn = job;
      lock.unlock();
      (*fn)(worker);
      lock.lock();
      if (--running == 0) done.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  if (threads < 1) threads = int(std::max(1u, std::thread::hardware_concurrency()));
  for (int i = 1; i < threads; ++i) state_->threads.emplace_back([this, i] { state_->work(i); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->wake.notify_all();
  for (auto& thread : state_->threads) thread.join();
}

int ThreadPool::size() const { return int(state_->threads.size()) + 1; }

void ThreadPool::run_all(const std::function<void(int)>& fn) {
  if (state_->threads.empty()) return fn(0);
  {
    const std::lock_guard lock(state_->mutex);
    state_->job = &fn;
    state_->running = int(state_->threads.size());
    ++state_->generation;
  }
  state_->wake.notify_all();
  fn(0);
  std::unique_lock lock(state_->mutex);
  state_->done.wait(lock, [&] { return state_->running == 0; });
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
