#include "loadtest/runner.h"

#include <algorithm>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace nibble::loadtest {
namespace {

// Counts requests in flight; the one place where the sending thread waits for answers.
class InFlight {
 public:
  explicit InFlight(const std::function<void(int64_t)>& progress) : progress_(progress) {}

  // Waits until fewer than `limit` are in flight, then takes a place.
  void Enter(int64_t limit) {
    absl::MutexLock lock(&mutex_);
    const auto has_place = [this, limit]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return now_ < limit; };
    mutex_.Await(absl::Condition(&has_place));
    peak_ = std::max(peak_, ++now_);
  }
  void Leave() {
    absl::MutexLock lock(&mutex_);
    --now_;
    progress_(++ended_);
  }
  // Waits for the last to leave; returns the most there were.
  int64_t Drain() {
    absl::MutexLock lock(&mutex_);
    const auto is_empty = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return now_ == 0; };
    mutex_.Await(absl::Condition(&is_empty));
    return peak_;
  }

 private:
  const std::function<void(int64_t)>& progress_;
  absl::Mutex mutex_;
  int64_t now_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t peak_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t ended_ ABSL_GUARDED_BY(mutex_) = 0;
};

Clock::time_point After(Clock::time_point start, double seconds) {
  return start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

Measurement SendAll(Client& client, const std::vector<Request>& requests, const Schedule& schedule,
                    const std::function<void(int64_t)>& progress) {
  Measurement run;
  run.records.resize(requests.size());
  InFlight in_flight(progress);
  const Clock::time_point start = Clock::now();
  for (size_t i = 0; i < requests.size(); ++i) {
    Record& record = run.records[i];
    if (!schedule.arrivals.empty()) {
      record.scheduled = After(start, schedule.arrivals[i]);
      std::this_thread::sleep_until(record.scheduled);
    }
    in_flight.Enter(schedule.max_concurrency);
    if (schedule.arrivals.empty()) record.scheduled = Clock::now();
    client.Start(requests[i], &record, [&in_flight] { in_flight.Leave(); });
  }
  run.peak_concurrency = in_flight.Drain();
  run.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return run;
}

}  // namespace nibble::loadtest
