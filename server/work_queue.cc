#include "server/work_queue.h"

#include <utility>

namespace nibble::server {

WorkQueue::WorkQueue(int threads, int64_t capacity) : capacity_(capacity) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

WorkQueue::~WorkQueue() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

bool WorkQueue::TryPush(std::function<void()> task) {
  absl::MutexLock lock(&mu_);
  if (static_cast<int64_t>(tasks_.size()) >= capacity_) return false;
  tasks_.push_back(std::move(task));
  return true;
}

void WorkQueue::Run() {
  const auto has_news = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return stopping_ || !tasks_.empty(); };
  while (true) {
    std::function<void()> task;
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(&has_news));
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace nibble::server
