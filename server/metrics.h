// What /metrics says. Gauges and counters of serving come from the loop's snapshot at the time of a scrape; latencies
// are observed when a request is done. Names, labels and buckets are those of vLLM, so that its dashboards and gateways
// work unconfigured. Any thread.
#ifndef NIBBLE_SERVER_METRICS_H_
#define NIBBLE_SERVER_METRICS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <tuple>

#include "absl/status/status.h"
#include "engine/kv_memory.h"
#include "scheduler/counters.h"
#include "server/request_timings.h"

namespace nibble::server {

// What does not change about the KV cache.
struct KvInfo {
  std::string codec;
  double bits = 0.0;  // per element of a sealed page
  engine::KvCosts costs;
};

class Metrics {
 public:
  // `snapshot` must not wait for a step; it is called on scraping threads.
  Metrics(std::string model_name, KvInfo kv, std::function<sched::Counters()> snapshot);
  ~Metrics();

  // `tenant`: empty where there are none.
  void ObserveRequest(const RequestTimings& timings, const std::string& tenant);
  // A request that was refused: counted by the code's name, so the set of series is bounded.
  void CountRejection(absl::StatusCode code, const std::string& tenant);
  // A request that its client gave up before it was admitted; the scheduler counts the others.
  void CountCancelled(sched::CancelCause cause);
  // Prometheus text format.
  std::string Render() const;

 private:
  struct Series;

  const std::string model_name_;
  const KvInfo kv_;
  const std::function<sched::Counters()> snapshot_;
  const std::unique_ptr<Series> series_;
  std::array<std::atomic<int64_t>, std::tuple_size_v<decltype(sched::Counters::cancelled)>> cancelled_early_ = {};
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_METRICS_H_
