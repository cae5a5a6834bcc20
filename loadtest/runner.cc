#include "loadtest/runner.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace nibble::loadtest {
namespace {

// Counts requests in flight; the one place where the sending thread waits for answers.
class InFlight {
 public:
  explicit InFlight(const Progress& progress) : progress_(progress) {}

  // Waits until fewer than `limit` are in flight, then takes a place. False if no more are to be sent.
  bool Enter(int64_t limit) {
    absl::MutexLock lock(&mutex_);
    const auto has_place = [this, limit]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return now_ < limit; };
    mutex_.Await(absl::Condition(&has_place));
    if (stopped_) return false;
    peak_ = std::max(peak_, ++now_);
    return true;
  }
  void Leave(const Record& record) {
    absl::MutexLock lock(&mutex_);
    --now_;
    if (!progress_(++ended_, record)) stopped_ = true;
  }
  // Waits for the last to leave; returns the most there were.
  int64_t Drain() {
    absl::MutexLock lock(&mutex_);
    const auto is_empty = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return now_ == 0; };
    mutex_.Await(absl::Condition(&is_empty));
    return peak_;
  }

 private:
  const Progress& progress_;
  absl::Mutex mutex_;
  int64_t now_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t peak_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t ended_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

Clock::time_point After(Clock::time_point start, double seconds) {
  return start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
}

// Of the machine, or of a part that it was bound to.
int64_t UsableCpus() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : std::thread::hardware_concurrency();
}

}  // namespace

Measurement SendAll(Client& client, const std::vector<Request>& requests, const Schedule& schedule,
                    const Progress& progress) {
  Measurement run;
  run.records.resize(requests.size());
  InFlight in_flight(progress);
  const double cpu_before = CpuSeconds();
  const Clock::time_point start = run.start = Clock::now();
  Clock::time_point free = start;  // since when the client has had nothing to wait for but the next schedule
  size_t i = 0;
  for (; i < requests.size(); ++i) {
    Record& record = run.records[i];
    if (!schedule.arrivals.empty()) {
      record.scheduled = After(start, schedule.arrivals[i]);
      std::this_thread::sleep_until(record.scheduled);
      const auto late = Clock::now() - std::max(record.scheduled, free);
      run.late_ms.push_back(std::chrono::duration<double, std::milli>(late).count());
    }
    if (!in_flight.Enter(schedule.max_concurrency)) break;
    free = Clock::now();
    if (schedule.arrivals.empty()) record.scheduled = Clock::now();
    client.Start(requests[i], &record, [&in_flight, &record] { in_flight.Leave(record); });
  }
  run.peak_concurrency = in_flight.Drain();
  run.records.resize(i);
  run.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  run.cpu_seconds = CpuSeconds() - cpu_before;
  run.cpus = std::min(UsableCpus(), client.threads());
  return run;
}

}  // namespace nibble::loadtest
