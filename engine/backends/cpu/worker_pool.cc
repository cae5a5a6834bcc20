#include "engine/backends/cpu/worker_pool.h"

#include <system_error>

#include "absl/strings/str_cat.h"
#include "kvcache/base/check.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

// About 50 microseconds: longer than the serial stretches between the loops of one step, far shorter than idle time.
constexpr int kSpins = 2000;

void Relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerPool>> WorkerPool::Create(int threads) {
  std::unique_ptr<WorkerPool> pool(new WorkerPool());
  NIBBLE_RETURN_IF_ERROR(pool->Start(threads));
  return pool;
}

WorkerPool::WorkerPool(int threads) { NIBBLE_CHECK(Start(threads).ok()); }

absl::Status WorkerPool::Start(int threads) {
  NIBBLE_CHECK(threads >= 1);
  shares_ = std::make_unique<ItemShare[]>(static_cast<size_t>(threads));
  for (int thread = 1; thread < threads; ++thread) {
    try {
      workers_.emplace_back([this, thread] { WorkerMain(thread); });
    } catch (const std::system_error& error) {
      return absl::ResourceExhaustedError(
          absl::StrCat("threads: the system refuses thread ", thread + 1, " of ", threads, ": ", error.what()));
    }
  }
  return absl::OkStatus();
}

WorkerPool::~WorkerPool() {
  stopping_ = true;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void WorkerPool::Share(int64_t count, Handing handing, const void* context, Function function) {
  function_ = function;
  context_ = context;
  handing_ = handing;
  for (int thread = 0; thread < threads(); ++thread) {
    shares_[thread].next.store(BeginOfShare(count, thread, threads()), std::memory_order_relaxed);
    shares_[thread].end = BeginOfShare(count, thread + 1, threads());
  }
  busy_.store(static_cast<int32_t>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  Work(0);
  // The loop is at its end: the others finish their last items, so spinning is short. On an overcommitted machine a
  // worker may have been descheduled: give it the core.
  for (int spin = 0; busy_.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < kSpins) {
      Relax();
    } else {
      std::this_thread::yield();
    }
  }
}

void WorkerPool::Work(int thread) {
  for (int i = 0; i < threads(); ++i) WorkOn(shares_[(thread + i) % threads()], thread);
}

void WorkerPool::WorkOn(ItemShare& share, int thread) {
  int64_t first = share.next.load(std::memory_order_relaxed);
  while (first < share.end) {
    const int64_t run = handing_ == Handing::kOneByOne ? 1 : (share.end - first + 1) / 2;
    if (!share.next.compare_exchange_weak(first, first + run, std::memory_order_relaxed)) continue;
    function_(context_, first, first + run, thread);
    first = share.next.load(std::memory_order_relaxed);
  }
}

void WorkerPool::WorkerMain(int thread) {
  uint32_t seen = 0;
  while (true) {
    for (int spin = 0; spin < kSpins && generation_.load(std::memory_order_acquire) == seen; ++spin) Relax();
    generation_.wait(seen, std::memory_order_acquire);
    seen = generation_.load(std::memory_order_acquire);
    if (stopping_) return;
    Work(thread);
    busy_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace nibble::engine
