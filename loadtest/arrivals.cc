#include "loadtest/arrivals.h"

#include <cmath>
#include <random>

namespace nibble::loadtest {
namespace {

// The rate before request i, 1 <= i < count.
double RateAt(int64_t i, int64_t count, const ArrivalOptions& options) {
  if (options.ramp_from == 0 || count < 3) return options.rate;
  const double share = static_cast<double>(i - 1) / static_cast<double>(count - 2);
  return options.ramp_from + share * (options.rate - options.ramp_from);
}

}  // namespace

std::vector<double> ArrivalSeconds(int64_t count, const ArrivalOptions& options) {
  std::vector<double> seconds(count, 0.0);
  if (std::isinf(options.rate)) return seconds;
  std::mt19937_64 random(options.seed);
  std::gamma_distribution<double> gap(options.burstiness, 1.0 / options.burstiness);
  for (int64_t i = 1; i < count; ++i) seconds[i] = seconds[i - 1] + gap(random) / RateAt(i, count, options);
  return seconds;
}

}  // namespace nibble::loadtest
