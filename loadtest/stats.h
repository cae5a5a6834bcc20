// Figures of a run, defined as vLLM's serving benchmark defines them.
#ifndef NIBBLE_LOADTEST_STATS_H_
#define NIBBLE_LOADTEST_STATS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "loadtest/request.h"
#include "loadtest/runner.h"
#include "loadtest/slo.h"
#include "loadtest/steady_state.h"

namespace nibble::loadtest {

// All zero for no values.
struct Distribution {
  double mean = 0;
  double std = 0;  // of the population
  double p50 = 0;  // percentiles interpolate linearly between the two nearest values
  double p90 = 0;
  double p95 = 0;
  double p99 = 0;
  double p999 = 0;
};

Distribution Describe(std::vector<double> values);

// One answer's latencies, milliseconds from its scheduled send time.
struct Latency {
  double ttft_ms = 0;  // to the first output
  double e2el_ms = 0;  // to the last output
  // Of an answer with two tokens or more: (end to end - first token) / (tokens - 1).
  std::optional<double> tpot_ms;
  std::vector<double> itl_ms;  // between neighbouring outputs
};

// REQUIRES: the record has output.
Latency LatencyOf(const Record& record);

// Failed, cancelled and stalled requests count as such and in nothing else.
struct Summary {
  int64_t completed = 0;
  int64_t failed = 0;
  std::map<std::string, int64_t> failures;  // by status
  int64_t cancelled = 0;
  int64_t stalled = 0;
  double duration_s = 0;
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  double requests_per_s = 0;
  double output_tokens_per_s = 0;
  double total_tokens_per_s = 0;
  std::optional<double> goodput_per_s;  // requests that met the objective, where there is one
  double share_met = 0;                 // of those that met or missed it
  Distribution ttft_ms;
  Distribution tpot_ms;
  Distribution itl_ms;
  Distribution e2el_ms;
  std::optional<Distribution> queue_ms;  // where the server says it
  Distribution late_ms;                  // of a whole run
};

Summary Summarize(const Measurement& run, const std::optional<Slo>& slo);

// The same for the requests of each tenant, against the time of the whole run. Empty where no request has one.
std::map<std::string, Summary> SummarizeTenants(const Measurement& run, const std::optional<Slo>& slo);

// Counts, latencies and objective are those of the requests scheduled in the window, whenever they end; throughput is
// what came in it, whoever asked for it: answers by their last output, prompts by the first, and output tokens evenly
// over the messages of their answer. REQUIRES: the window is not empty.
Summary SummarizeWindow(const Measurement& run, const std::optional<Slo>& slo, const Window& window);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_STATS_H_
