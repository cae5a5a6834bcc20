// The one clock of the daemon: immune to changes of the wall clock.
#ifndef NIBBLE_SERVER_MONOTONIC_CLOCK_H_
#define NIBBLE_SERVER_MONOTONIC_CLOCK_H_

#include <chrono>

#include "scheduler/request.h"

namespace nibble::server {

inline sched::Nanos MonotonicNow() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_MONOTONIC_CLOCK_H_
