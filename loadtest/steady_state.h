// A run without its beginning, when load only grows, and its end, when it only falls.
#ifndef NIBBLE_LOADTEST_STEADY_STATE_H_
#define NIBBLE_LOADTEST_STEADY_STATE_H_

#include <string>

#include "absl/status/statusor.h"
#include "loadtest/request.h"
#include "loadtest/runner.h"

namespace nibble::loadtest {

// What to leave out.
struct Cut {
  double warmup_s = 0;    // from the start of the run
  double cooldown_s = 0;  // up to the last request's schedule; what comes after is left out anyway
};

// "WARMUP:COOLDOWN", two durations such as 10s:5s. INVALID_ARGUMENT says what is wrong.
absl::StatusOr<Cut> ParseCut(const std::string& text);

struct Window {
  Clock::time_point from;
  Clock::time_point until;

  bool Holds(Clock::time_point at) const { return from <= at && at < until; }
  double seconds() const { return std::chrono::duration<double>(until - from).count(); }
};

// May be empty, or less than that: seconds() <= 0.
Window SteadyWindow(const Measurement& run, const Cut& cut);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_STEADY_STATE_H_
