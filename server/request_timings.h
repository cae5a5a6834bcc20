// One request's times, gathered by its stream without locks and handed to Metrics when the stream is done: so a scrape
// never meets the loop thread at a lock.
#ifndef NIBBLE_SERVER_REQUEST_TIMINGS_H_
#define NIBBLE_SERVER_REQUEST_TIMINGS_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "scheduler/request.h"

namespace nibble::server {

// Upper bounds, in seconds, of the buckets of latencies per token.
inline constexpr std::array<double, 19> kTokenLatencyBounds = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                                                               .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};

// Latencies already sorted into the buckets of kTokenLatencyBounds and one beyond.
class TokenLatencies {
 public:
  void Add(sched::Nanos latency) {
    const double seconds = static_cast<double>(latency) * 1e-9;
    const auto bound = std::lower_bound(kTokenLatencyBounds.begin(), kTokenLatencyBounds.end(), seconds);
    counts_[bound - kTokenLatencyBounds.begin()] += 1;
    sum_seconds_ += seconds;
  }
  const std::vector<double>& counts() const { return counts_; }
  double sum_seconds() const { return sum_seconds_; }

 private:
  std::vector<double> counts_ = std::vector<double>(kTokenLatencyBounds.size() + 1);
  double sum_seconds_ = 0.0;
};

struct RequestTimings {
  sched::Nanos arrival = 0;
  sched::Nanos first_token = 0;  // 0: none came
  sched::Nanos end = 0;
  sched::Nanos queue_time = 0;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;  // of all choices
  TokenLatencies inter_token;    // between two tokens of one choice
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_REQUEST_TIMINGS_H_
