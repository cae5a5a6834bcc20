// A few threads that do what is too long for a gRPC thread: tokenizing, reading adapters. Owners of tasks (tenants)
// take turns, and none can fill the queue for the others.
#ifndef NIBBLE_SERVER_WORK_QUEUE_H_
#define NIBBLE_SERVER_WORK_QUEUE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"

namespace nibble::server {

class WorkQueue {
 public:
  // `capacity`: tasks that wait, of all owners and of one. Throws std::system_error where the system refuses a thread.
  WorkQueue(int threads, int64_t capacity, int64_t capacity_per_owner);
  // Finishes what is queued.
  ~WorkQueue();

  // Any thread; never waits. False, and nothing kept, where as many tasks are waiting as may.
  bool TryPush(const std::string& owner, std::function<void()> task);

 private:
  using Task = std::function<void()>;

  void Run();
  void Stop();
  // Of the owner whose turn it is. REQUIRES: waiting_ > 0.
  Task Take() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const int64_t capacity_, capacity_per_owner_;
  absl::Mutex mu_;
  absl::flat_hash_map<std::string, std::deque<Task>> tasks_ ABSL_GUARDED_BY(mu_);  // of owners that have any
  std::deque<std::string> turns_ ABSL_GUARDED_BY(mu_);                             // each of them once
  int64_t waiting_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_WORK_QUEUE_H_
