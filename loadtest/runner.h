// Sends requests by a schedule and collects what came of them.
#ifndef NIBBLE_LOADTEST_RUNNER_H_
#define NIBBLE_LOADTEST_RUNNER_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "loadtest/client.h"
#include "loadtest/request.h"

namespace nibble::loadtest {

struct Measurement {
  std::vector<Record> records;  // in the order of the requests
  double seconds = 0;           // from the first request's schedule to the last answer's end
  int64_t peak_concurrency = 0;
};

struct Schedule {
  // When each request is due, in seconds from the start. Empty: each as soon as it may go; it counts as scheduled at
  // that moment, while a due request that has to wait for others counts from when it was due.
  std::vector<double> arrivals;
  int64_t max_concurrency = std::numeric_limits<int64_t>::max();
};

// Blocks until every request has ended. `progress` is called with the number ended, on any thread, one at a time.
Measurement SendAll(Client& client, const std::vector<Request>& requests, const Schedule& schedule,
                    const std::function<void(int64_t)>& progress);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_RUNNER_H_
