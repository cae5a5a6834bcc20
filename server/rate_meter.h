// How fast a counter grows, as those who ask now and then see it. Any thread.
#ifndef NIBBLE_SERVER_RATE_METER_H_
#define NIBBLE_SERVER_RATE_METER_H_

#include <cstdint>

#include "absl/synchronization/mutex.h"
#include "scheduler/request.h"

namespace nibble::server {

class RateMeter {
 public:
  // The counter stands at `count`. Its growth per second between the last two calls that were at least a second apart;
  // 0 before there are two.
  double PerSecond(sched::Nanos now, int64_t count) {
    constexpr sched::Nanos kLeast = 1'000'000'000;
    absl::MutexLock lock(&mu_);
    if (!begun_ || now - since_ >= kLeast) {
      if (begun_) rate_ = static_cast<double>(count - count_) * 1e9 / static_cast<double>(now - since_);
      begun_ = true;
      since_ = now;
      count_ = count;
    }
    return rate_;
  }

 private:
  absl::Mutex mu_;
  bool begun_ ABSL_GUARDED_BY(mu_) = false;
  sched::Nanos since_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t count_ ABSL_GUARDED_BY(mu_) = 0;
  double rate_ ABSL_GUARDED_BY(mu_) = 0.0;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_RATE_METER_H_
