// Which request goes next, and when.
#ifndef NIBBLE_LOADTEST_SEND_QUEUE_H_
#define NIBBLE_LOADTEST_SEND_QUEUE_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <queue>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "loadtest/request.h"

namespace nibble::loadtest {

struct Schedule {
  // When each request that follows no other is due, in seconds from the start, rising. Empty: each as soon as it may
  // go, behind the requests of conversations that have begun; it counts as scheduled at that moment, while a due
  // request that has to wait for others counts from when it was due.
  std::vector<double> arrivals;
  int64_t max_concurrency = std::numeric_limits<int64_t>::max();
};

// Hears of every request that has ended and how many have; on any thread, one call at a time. Returns whether to send
// more.
using Progress = std::function<bool(int64_t ended, const Record& record)>;

// The one place where the sending thread waits. Requests that follow another are due its think time after the other has
// ended; a conversation whose request failed ends there.
class SendQueue {
 public:
  struct Next {
    size_t index;
    Clock::time_point scheduled;
    // How much later it goes than due, the wait for others left out; nothing where it was not due at a time.
    std::optional<double> late_ms;
  };

  // `requests` and `progress` must outlive it.
  SendQueue(const std::vector<Request>& requests, const Schedule& schedule, Clock::time_point start,
            const Progress& progress);

  // Blocks until a request may go, and counts it as in flight. Nothing once there will be none. The sending thread's.
  std::optional<Next> Pop();

  // Any thread.
  void Ended(size_t index, const Record& record);

  // Blocks until nothing is in flight; returns the most there was. The sending thread's.
  int64_t Drain();

 private:
  using Due = std::pair<Clock::time_point, size_t>;

  // What goes next, and when; nothing while that waits for an answer.
  std::optional<Due> Peek(Clock::time_point now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Next Take(const Due& due, Clock::time_point now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsOver() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::vector<Request>& requests_;
  const Progress& progress_;
  const bool has_arrivals_;
  const int64_t max_concurrency_;
  std::vector<Due> roots_;            // requests that follow no other; without arrivals all at the start
  std::vector<int64_t> follower_of_;  // by request; -1: none
  absl::Mutex mutex_;
  absl::CondVar changed_;
  size_t next_root_ ABSL_GUARDED_BY(mutex_) = 0;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> followers_ ABSL_GUARDED_BY(mutex_);
  Clock::time_point had_place_ ABSL_GUARDED_BY(mutex_);  // since when there has been a free place
  int64_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t peak_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t ended_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_SEND_QUEUE_H_
