// A pool of threads for data-parallel loops. Work is cut by index only, so results never depend on
// the thread count.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace nibble {

class ThreadPool {
 public:
  /// `threads` < 1 means one per available core. The calling thread takes part in the work.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  /// Calls fn(begin, end) for consecutive ranges of at most `grain` indices that cover [0, n), on
  /// all threads, and returns when all are done. Ranges are handed out in order as threads become
  /// free. `fn` must not throw, and must not call run() of the same pool.
  void run(std::int64_t n, std::int64_t grain,
           const std::function<void(std::int64_t, std::int64_t)>& fn);

  /// Calls fn(0) on the calling thread and fn(worker) once on every other thread that is free
  /// before fn(0) returns, worker = 1 .. size()-1; waits for all that began. A thread the system is
  /// slow to schedule is left out rather than waited for: `fn` takes work from a shared counter
  /// until none is left.
  void run_all(const std::function<void(int)>& fn);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nibble
