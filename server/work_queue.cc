#include "server/work_queue.h"

#include <utility>

#include "absl/cleanup/cleanup.h"

namespace nibble::server {

WorkQueue::WorkQueue(int threads, int64_t capacity, int64_t capacity_per_owner)
    : capacity_(capacity), capacity_per_owner_(capacity_per_owner) {
  // Those that were started do not outlive the attempt to start all.
  absl::Cleanup stop = [this] { Stop(); };
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
  std::move(stop).Cancel();
}

WorkQueue::~WorkQueue() { Stop(); }

void WorkQueue::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

bool WorkQueue::TryPush(const std::string& owner, std::function<void()> task) {
  absl::MutexLock lock(&mu_);
  if (waiting_ >= capacity_) return false;
  const auto found = tasks_.find(owner);
  if (found == tasks_.end()) {
    turns_.push_back(owner);
    tasks_[owner].push_back(std::move(task));
  } else {
    if (static_cast<int64_t>(found->second.size()) >= capacity_per_owner_) return false;
    found->second.push_back(std::move(task));
  }
  ++waiting_;
  return true;
}

WorkQueue::Task WorkQueue::Take() {
  std::string owner = std::move(turns_.front());
  turns_.pop_front();
  const auto found = tasks_.find(owner);
  Task task = std::move(found->second.front());
  found->second.pop_front();
  --waiting_;
  if (found->second.empty()) {
    tasks_.erase(found);
  } else {
    turns_.push_back(std::move(owner));
  }
  return task;
}

void WorkQueue::Run() {
  const auto has_news = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return stopping_ || waiting_ > 0; };
  while (true) {
    Task task;
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(&has_news));
      if (waiting_ == 0) return;
      task = Take();
    }
    task();
  }
}

}  // namespace nibble::server
