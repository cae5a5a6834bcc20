#include "engine/backends/cpu/worker_pool.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"

namespace nibble::engine {
namespace {

TEST(WorkerPool, RunsEveryItemOnce) {
  for (int threads : {1, 2, 3, 8}) {
    WorkerPool pool(threads);
    for (int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> one_by_one(count), in_runs(count);
      const auto run_item = [&](std::vector<std::atomic<int>>& times, int64_t i, int thread) {
        ASSERT_GE(thread, 0);
        ASSERT_LT(thread, threads);
        ++times[i];
      };
      pool.ParallelFor(count, [&](int64_t i, int thread) { run_item(one_by_one, i, thread); });
      pool.ParallelRuns(count, [&](int64_t first, int64_t end, int thread) {
        EXPECT_LT(first, end);
        for (int64_t i = first; i < end; ++i) run_item(in_runs, i, thread);
      });
      for (const auto* times : {&one_by_one, &in_runs}) {
        for (const auto& of_item : *times) EXPECT_EQ(of_item, 1);
      }
    }
  }
}

TEST(WorkerPool, RunsAreLongAtFirst) {
  WorkerPool pool(2);
  std::vector<int64_t> length_of(1000);
  pool.ParallelRuns(1000, [&](int64_t first, int64_t end, int) { length_of[first] = end - first; });
  EXPECT_EQ(length_of[0], 250);
  EXPECT_EQ(length_of[999], 1);
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

// As many items as threads, each waiting for all others: the loop ends only if every thread runs one of them.
void MeetInALoop(WorkerPool& pool) {
  std::latch all(pool.threads());
  std::vector<std::atomic<int>> items(pool.threads());
  pool.ParallelFor(pool.threads(), [&](int64_t, int thread) {
    ++items[thread];
    all.arrive_and_wait();
  });
  for (const auto& count : items) EXPECT_EQ(count, 1);
}

TEST(WorkerPool, EveryThreadTakesPart) {
  for (int threads : {2, 3, 8}) {
    WorkerPool pool(threads);
    for (int round = 0; round < 100; ++round) MeetInALoop(pool);
  }
}

TEST(WorkerPool, EveryThreadBeginsWithItsOwnShare) {
  constexpr int kThreads = 4;
  WorkerPool pool(kThreads);
  std::latch all(kThreads);
  std::vector<int64_t> first_of(kThreads, -1);
  pool.ParallelFor(40, [&](int64_t i, int thread) {
    if (first_of[thread] >= 0) return;
    first_of[thread] = i;
    all.arrive_and_wait();  // nobody is through with its share before everybody has begun
  });
  EXPECT_EQ(first_of, (std::vector<int64_t>{0, 10, 20, 30}));
}

// Without that the loop would not end: whoever has the first item of the second share waits for all others.
TEST(WorkerPool, AThreadThatIsThroughTakesFromTheOthers) {
  WorkerPool pool(2);
  std::latch rest(39);
  pool.ParallelFor(40, [&](int64_t i, int) {
    if (i == 20) {
      rest.wait();
    } else {
      rest.count_down();
    }
  });
  EXPECT_TRUE(rest.try_wait());
}

TEST(WorkerPool, TheFirstSharesAreTheLargerOnes) {
  for (int64_t count : {0, 1, 2, 7, 1000}) {
    for (int64_t shares : {1, 2, 3, 8}) {
      EXPECT_EQ(WorkerPool::BeginOfShare(count, 0, shares), 0);
      EXPECT_EQ(WorkerPool::BeginOfShare(count, shares, shares), count);
      const int64_t first = WorkerPool::BeginOfShare(count, 1, shares);
      EXPECT_EQ(first, (count + shares - 1) / shares);
      for (int64_t share = 1; share < shares; ++share) {
        const int64_t size =
            WorkerPool::BeginOfShare(count, share + 1, shares) - WorkerPool::BeginOfShare(count, share, shares);
        EXPECT_GE(size, first - 1);
        EXPECT_LE(size, first);
      }
    }
  }
}

TEST(WorkerPool, WakesAfterSleep) {
  WorkerPool pool(2);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // longer than workers spin
    MeetInALoop(pool);
  }
}

TEST(WorkerPool, ARefusedThreadIsAnError) {
  EXPECT_EQ((*WorkerPool::Create(3))->threads(), 3);
  pthread_attr_t before, huge_stacks;
  ASSERT_EQ(pthread_getattr_default_np(&before), 0);
  ASSERT_EQ(pthread_attr_init(&huge_stacks), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&huge_stacks, size_t{1} << 50), 0);  // more than there are addresses
  ASSERT_EQ(pthread_setattr_default_np(&huge_stacks), 0);
  const absl::Status status = WorkerPool::Create(3).status();
  ASSERT_EQ(pthread_setattr_default_np(&before), 0);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted, testing::HasSubstr("thread 2 of 3")));
  pthread_attr_destroy(&before);
  pthread_attr_destroy(&huge_stacks);
}

}  // namespace
}  // namespace nibble::engine
