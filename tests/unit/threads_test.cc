#include "base/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace nibble {
namespace {

TEST(ThreadPool, CoversEveryIndexOnce) {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (const std::int64_t n : {0, 1, 5, 64, 1000}) {
      for (const std::int64_t grain : {0, 1, 3, 2000}) {
        std::vector<std::atomic<int>> touched(static_cast<std::size_t>(n));
        pool.run(n, grain, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) ++touched[std::size_t(i)];
        });
        for (const auto& count : touched) ASSERT_EQ(count, 1) << n << " by " << grain;
      }
    }
  }
}

// Loops far shorter than a wake-up, one after another: what one thread wrote in one loop, any other
// reads in the next.
TEST(ThreadPool, ShortLoopsSeeEachOther) {
  for (const int threads : {2, 5}) {
    ThreadPool pool(threads);
    std::vector<int> last(64), next(64);
    for (int round = 0; round < 20000; ++round) {
      pool.run(64, 1, [&](std::int64_t i, std::int64_t) {
        next[std::size_t(i)] = last[std::size_t(63 - i)] + 1;
      });
      last.swap(next);
    }
    for (const int value : last) ASSERT_EQ(value, 20000);
  }
}

TEST(ThreadPool, WakesAndEndsAfterIdling) {
  ThreadPool pool(3);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));  // long past the patience
  std::atomic<int> calls{0};
  std::atomic<bool> others{false};
  pool.run_all([&](int worker) {
    ++calls;
    if (worker) others = true;
    // The caller stays until another thread came: a sleeping thread must be woken.
    while (!worker && !others) std::this_thread::yield();
  });
  EXPECT_GE(calls, 2);
  EXPECT_LE(calls, 3);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

TEST(ThreadPool, LoopsFromSeveralPoolsAtOnce) {
  std::atomic<std::int64_t> sum{0};
  std::vector<std::thread> users;
  for (int u = 0; u < 3; ++u)
    users.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        ThreadPool pool(3);
        for (int loop = 0; loop < 20; ++loop)
          pool.run(10, 1, [&](std::int64_t i, std::int64_t) { sum += i; });
      }
    });
  for (auto& user : users) user.join();
  EXPECT_EQ(sum, 3 * 50 * 20 * 45);
}

}  // namespace
}  // namespace nibble
