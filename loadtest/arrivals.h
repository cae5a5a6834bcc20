// When requests are sent.
#ifndef NIBBLE_LOADTEST_ARRIVALS_H_
#define NIBBLE_LOADTEST_ARRIVALS_H_

#include <cstdint>
#include <vector>

namespace nibble::loadtest {

struct ArrivalOptions {
  double rate = 0;  // requests per second; infinity: all at once
  // Shape of the gamma-distributed gaps: 1 is a Poisson process, below 1 burstier, above 1 steadier.
  double burstiness = 1;
  double ramp_from = 0;  // the rate of the first gap, from which it grows linearly to `rate`; 0: `rate` all along
  uint64_t seed = 0;
};

// Seconds from the start of the run at which each of `count` requests is sent: increasing, the first at 0.
// REQUIRES: rate > 0, burstiness > 0, ramp_from >= 0 and finite.
std::vector<double> ArrivalSeconds(int64_t count, const ArrivalOptions& options);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_ARRIVALS_H_
