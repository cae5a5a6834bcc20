// Sends requests by a schedule and collects what came of them.
#ifndef NIBBLE_LOADTEST_RUNNER_H_
#define NIBBLE_LOADTEST_RUNNER_H_

#include <cstdint>
#include <vector>

#include "loadtest/client.h"
#include "loadtest/request.h"
#include "loadtest/send_queue.h"
#include "loadtest/server_metrics.h"

namespace nibble::loadtest {

struct Measurement {
  std::vector<Record> records;  // in the order of the requests
  Clock::time_point start;      // what the schedule counts from
  double seconds = 0;           // from the start to the last answer's end
  int64_t peak_concurrency = 0;
  // How much later than due the client came to each request that was due at a time, the wait for others left out.
  std::vector<double> late_ms;
  double cpu_seconds = 0;  // of this process
  int64_t cpus = 1;        // that it could have kept busy: its threads, on the CPUs it may use
  ServerMetrics metrics;   // what a Scraper saw in the meantime, where the caller had one
};

// Blocks until every request has ended. Requests that were not sent have no record: those
// after `progress` has said so, and the rest of a conversation in which a request failed.
Measurement SendAll(Client& client, const std::vector<Request>& requests, const Schedule& schedule,
                    const Progress& progress);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_RUNNER_H_
