// A persistent pool that runs one parallel loop at a time. Workers spin briefly for the next loop, then sleep, so that
// a busy engine pays about a microsecond per loop and an idle daemon uses no CPU.
#ifndef NIBBLE_ENGINE_BACKENDS_CPU_WORKER_POOL_H_
#define NIBBLE_ENGINE_BACKENDS_CPU_WORKER_POOL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace nibble::engine {

class WorkerPool {
 public:
  // `threads` >= 1 counts the calling thread. RESOURCE_EXHAUSTED where the system refuses a thread.
  static absl::StatusOr<std::unique_ptr<WorkerPool>> Create(int threads);
  // For where a refusal may end the process.
  explicit WorkerPool(int threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // The first item of the `share`-th of equal shares; the first shares are the larger ones.
  static int64_t BeginOfShare(int64_t count, int64_t share, int64_t shares) {
    return (share * count + shares - 1) / shares;
  }

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(i, thread) for i in [0, count), thread in [0, threads()); returns when all are done. Thread t begins
  // with the t-th of equal shares of the items, so that from loop to loop it finds rows in its own cache that it has
  // left there, and takes from the others' when its own is used up: which thread runs which i is not determined, and
  // results must not depend on it. One caller at a time; body must not call ParallelFor.
  template <typename Body>
  void ParallelFor(int64_t count, const Body& body) {
    const auto run = [&body](int64_t first, int64_t end, int thread) {
      for (int64_t i = first; i < end; ++i) body(i, thread);
    };
    Run(count, Handing::kOneByOne, run);
  }

  // The same with body(first, end, thread) for runs of items, each half of what is left of a share (guided
  // self-scheduling, Polychronopoulos & Kuck 1987). For items of about equal cost that lie side by side in memory: a
  // thread reads long stretches of it, and all still end together.
  template <typename Body>
  void ParallelRuns(int64_t count, const Body& body) {
    Run(count, Handing::kInRuns, body);
  }

 private:
  WorkerPool() {}
  absl::Status Start(int threads);

  enum class Handing { kOneByOne, kInRuns };
  // The items that a thread begins with, those before `next` taken.
  struct alignas(64) ItemShare {
    std::atomic<int64_t> next = 0;
    int64_t end = 0;
  };
  using Function = void (*)(const void* context, int64_t first, int64_t end, int thread);

  template <typename Body>
  void Run(int64_t count, Handing handing, const Body& body) {
    if (count <= 0) return;
    if (count == 1 || workers_.empty()) return body(0, count, 0);
    Share(count, handing, &body, [](const void* context, int64_t first, int64_t end, int thread) {
      (*static_cast<const Body*>(context))(first, end, thread);
    });
  }
  void Share(int64_t count, Handing handing, const void* context, Function function);
  void Work(int thread);
  void WorkOn(ItemShare& share, int thread);
  void WorkerMain(int thread);

  // The current loop: written by Share before generation_ moves, read by workers after they see it move.
  Function function_ = nullptr;
  const void* context_ = nullptr;
  Handing handing_ = Handing::kOneByOne;
  std::unique_ptr<ItemShare[]> shares_;  // by thread
  bool stopping_ = false;

  alignas(64) std::atomic<uint32_t> generation_ = 0;
  alignas(64) std::atomic<int32_t> busy_ = 0;  // workers that have not finished the current loop
  std::vector<std::thread> workers_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_BACKENDS_CPU_WORKER_POOL_H_
