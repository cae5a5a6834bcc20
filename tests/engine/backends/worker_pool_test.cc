#include "engine/backends/cpu/worker_pool.h"

#include <atomic>
#include <vector>

#include "gtest/gtest.h"

namespace nibble::engine {
namespace {

TEST(WorkerPool, RunsEveryItemOnce) {
  for (int threads : {1, 2, 3, 8}) {
    WorkerPool pool(threads);
    for (int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(count);
      pool.ParallelFor(count, [&](int64_t i, int thread) {
        ASSERT_GE(thread, 0);
        ASSERT_LT(thread, threads);
        ++runs[i];
      });
      for (const auto& run : runs) EXPECT_EQ(run, 1);
    }
  }
}

TEST(WorkerPool, ResultsOfALoopAreSeenAfterIt) {
  WorkerPool pool(3);
  std::vector<int64_t> values(64);
  for (int64_t round = 1; round <= 2000; ++round) {
    pool.ParallelFor(64, [&](int64_t i, int) { values[i] += i; });
    ASSERT_EQ(values[63], 63 * round);
  }
  for (int64_t i = 0; i < 64; ++i) EXPECT_EQ(values[i], 2000 * i);
}

TEST(WorkerPool, WakesAfterSleep) {
  WorkerPool pool(2);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // longer than workers spin
    std::atomic<int> sum = 0;
    pool.ParallelFor(100, [&](int64_t, int) { ++sum; });
    EXPECT_EQ(sum, 100);
  }
}

}  // namespace
}  // namespace nibble::engine
