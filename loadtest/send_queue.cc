#include "loadtest/send_queue.h"

#include <algorithm>
#include <chrono>

#include "absl/time/time.h"

namespace nibble::loadtest {

SendQueue::SendQueue(const std::vector<Request>& requests, const Schedule& schedule, Clock::time_point start,
                     const Progress& progress)
    : requests_(requests),
      progress_(progress),
      has_arrivals_(!schedule.arrivals.empty()),
      max_concurrency_(schedule.max_concurrency),
      follower_of_(requests.size(), -1),
      had_place_(start) {
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].follows >= 0) {
      follower_of_[requests[i].follows] = static_cast<int64_t>(i);
      continue;
    }
    const std::chrono::duration<double> due(has_arrivals_ ? schedule.arrivals[roots_.size()] : 0);
    roots_.emplace_back(start + std::chrono::duration_cast<Clock::duration>(due), i);
  }
}

std::optional<SendQueue::Next> SendQueue::Pop() {
  absl::MutexLock lock(&mutex_);
  while (!IsOver()) {
    const Clock::time_point now = Clock::now();
    const std::optional<Due> due = Peek(now);
    if (!due.has_value() || in_flight_ >= max_concurrency_) {
      changed_.Wait(&mutex_);
    } else if (due->first > now) {
      changed_.WaitWithTimeout(&mutex_, absl::FromChrono(due->first - now));
    } else {
      return Take(*due, now);
    }
  }
  return std::nullopt;
}

bool SendQueue::IsOver() const {
  return stopped_ || (in_flight_ == 0 && followers_.empty() && next_root_ == roots_.size());
}

std::optional<SendQueue::Due> SendQueue::Peek(Clock::time_point now) const {
  const bool has_root = next_root_ < roots_.size();
  if (followers_.empty()) return has_root ? std::optional(roots_[next_root_]) : std::nullopt;
  if (!has_root) return followers_.top();
  if (has_arrivals_) return std::min(roots_[next_root_], followers_.top());
  return followers_.top().first <= now ? followers_.top() : roots_[next_root_];
}

SendQueue::Next SendQueue::Take(const Due& due, Clock::time_point now) {
  const bool is_root = requests_[due.second].follows < 0;
  if (is_root) {
    ++next_root_;
  } else {
    followers_.pop();
  }
  peak_ = std::max(peak_, ++in_flight_);
  if (is_root && !has_arrivals_) return {due.second, now, std::nullopt};
  const auto late = now - std::max(due.first, had_place_);
  return {due.second, due.first, std::chrono::duration<double, std::milli>(late).count()};
}

void SendQueue::Ended(size_t index, const Record& record) {
  absl::MutexLock lock(&mutex_);
  const Clock::time_point now = Clock::now();
  if (in_flight_-- == max_concurrency_) had_place_ = now;
  if (!progress_(++ended_, record)) stopped_ = true;
  const int64_t follower = follower_of_[index];
  if (follower >= 0 && record.outcome != Outcome::kFailed) {
    followers_.emplace(now + requests_[follower].think_time, follower);
  }
  changed_.SignalAll();
}

int64_t SendQueue::Drain() {
  absl::MutexLock lock(&mutex_);
  while (in_flight_ > 0) changed_.Wait(&mutex_);
  return peak_;
}

}  // namespace nibble::loadtest
