// A few threads that do what is too long for a gRPC thread: tokenizing.
#ifndef NIBBLE_SERVER_WORK_QUEUE_H_
#define NIBBLE_SERVER_WORK_QUEUE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"

namespace nibble::server {

class WorkQueue {
 public:
  WorkQueue(int threads, int64_t capacity);
  // Finishes what is queued.
  ~WorkQueue();

  // Any thread; never waits. False, and nothing kept, where `capacity` tasks are waiting.
  bool TryPush(std::function<void()> task);

 private:
  void Run();

  const int64_t capacity_;
  absl::Mutex mu_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_WORK_QUEUE_H_
