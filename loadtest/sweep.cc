#include "loadtest/sweep.h"

#include <algorithm>
#include <cmath>

namespace nibble::loadtest {

int64_t MissesAllowed(int64_t count) {
  // Against 0.1 standing a little above a tenth.
  return static_cast<int64_t>(std::floor(static_cast<double>(count) * (1 - kHeldShare) + 1e-9));
}

double FindHighestRate(double first, const std::function<bool(double rate)>& holds) {
  double held = 0, broken = 0;
  for (double rate = first; held == 0 || broken == 0;) {
    if (holds(rate)) {
      held = rate;
      if (rate == kMostRate) break;
      rate = std::min(2 * rate, kMostRate);
    } else {
      broken = rate;
      if (rate == kLeastRate) break;
      rate = std::max(rate / 2, kLeastRate);
    }
  }
  if (held == 0 || broken == 0) return held;
  while (broken / held > kSweepPrecision) {
    const double middle = std::sqrt(held * broken);
    (holds(middle) ? held : broken) = middle;
  }
  return held;
}

}  // namespace nibble::loadtest
