#include "loadtest/runner.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <optional>
#include <thread>

#include "loadtest/send_queue.h"

namespace nibble::loadtest {
namespace {

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
  const double cpu_before = CpuSeconds();
  run.start = Clock::now();
  SendQueue queue(requests, schedule, run.start, progress);
  while (const std::optional<SendQueue::Next> next = queue.Pop()) {
    if (next->late_ms.has_value()) run.late_ms.push_back(*next->late_ms);
    Record& record = run.records[next->index];
    record.scheduled = next->scheduled;
    record.adapter = requests[next->index].adapter;
    record.tenant = requests[next->index].tenant;
    client.Start(requests[next->index], &record, [&queue, &record, i = next->index] { queue.Ended(i, record); });
  }
  run.peak_concurrency = queue.Drain();
  std::erase_if(run.records, [](const Record& record) { return record.sent == Clock::time_point(); });
  run.seconds = std::chrono::duration<double>(Clock::now() - run.start).count();
  run.cpu_seconds = CpuSeconds() - cpu_before;
  run.cpus = std::min(UsableCpus(), client.threads());
  return run;
}

}  // namespace nibble::loadtest
