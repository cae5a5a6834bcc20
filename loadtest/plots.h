// What a run's plots show, small whatever the run's size.
#ifndef NIBBLE_LOADTEST_PLOTS_H_
#define NIBBLE_LOADTEST_PLOTS_H_

#include <cstdint>
#include <vector>

#include "loadtest/runner.h"

namespace nibble::loadtest {

// Bins of equal width on a logarithmic axis: bin i counts what lies in [edges[i], edges[i + 1]), the last one its upper
// end too. No bins for no values.
struct Histogram {
  std::vector<double> edges;
  std::vector<int64_t> counts;
};

// Values below 0.01 count as that.
Histogram LogHistogram(const std::vector<double>& values);

// TTFT and gaps of all completed answers, in milliseconds.
Histogram TtftHistogram(const Measurement& run);
Histogram ItlHistogram(const Measurement& run);

// Output tokens per second of completed answers, in steps of `step_s` from the start of the run on; the tokens of an
// answer lie evenly over its messages.
struct TokenRate {
  double step_s = 0;
  std::vector<double> tokens_per_s;
};
TokenRate OutputTokenRate(const Measurement& run);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_PLOTS_H_
