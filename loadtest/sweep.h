// The highest rate of requests at which a server keeps an objective.
#ifndef NIBBLE_LOADTEST_SWEEP_H_
#define NIBBLE_LOADTEST_SWEEP_H_

#include <cstdint>
#include <functional>

namespace nibble::loadtest {

// A rate is held where this share of its requests meets the objective.
inline constexpr double kHeldShare = 0.99;
// Rates within this factor of one another count as one.
inline constexpr double kSweepPrecision = 1.05;
// Rates that are tried at all, in requests per second.
inline constexpr double kLeastRate = 1.0 / 64;
inline constexpr double kMostRate = 65536;

// Requests out of `count` that may miss the objective while the rate is still held.
int64_t MissesAllowed(int64_t count);

// Doubles from `first` while `holds(rate)`, or halves until it does, then bisects between the highest rate seen to hold
// and the lowest seen not to. Returns the former, 0 if none holds. As far as the server is consistent, `holds` falls
// with the rate; where it does not, the answer is still a rate that was seen to hold.
// REQUIRES: kLeastRate <= first <= kMostRate.
double FindHighestRate(double first, const std::function<bool(double rate)>& holds);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_SWEEP_H_
