#include "loadtest/arrivals.h"

#include <cmath>
#include <random>

namespace nibble::loadtest {

std::vector<double> ArrivalSeconds(int64_t count, const ArrivalOptions& options) {
  std::vector<double> seconds(count, 0.0);
  if (std::isinf(options.rate)) return seconds;
  std::mt19937_64 random(options.seed);
  std::gamma_distribution<double> gap(options.burstiness, 1.0 / (options.rate * options.burstiness));
  for (int64_t i = 1; i < count; ++i) seconds[i] = seconds[i - 1] + gap(random);
  return seconds;
}

}  // namespace nibble::loadtest
