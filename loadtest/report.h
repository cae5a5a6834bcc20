// A run's figures as text and as JSON. The keys are those of vLLM's serving benchmark.
#ifndef NIBBLE_LOADTEST_REPORT_H_
#define NIBBLE_LOADTEST_REPORT_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "loadtest/options.h"
#include "loadtest/runner.h"
#include "loadtest/stats.h"

namespace nibble::loadtest {

// A run's figures, and those of its steady state where that was asked for and is not empty.
struct Results {
  Summary whole;
  std::optional<Summary> steady_state;
  std::map<std::string, Summary> tenants;
  std::string invalid;  // why the figures say nothing of the server; empty: they do
};

// One JSON object, indented; `steady_state`, and each of `tenants`, has the keys of a run. `metrics` are what was
// scraped: lists under the server's own names, beside `time_s`.
std::string ToJson(const Options& options, const std::string& model, const Measurement& run, const Results& results);

// What a sweep saw at one rate.
struct Probe {
  double rate = 0;
  bool held = false;
  int64_t sent = 0;  // fewer than asked where it was clear that the rate is not held
  Summary summary;
  std::string invalid;  // as in Results
};
// The same for a sweep: the highest rate held, and every probe with the keys of a run. `metrics` are those of `best`,
// the run at that rate.
std::string SweepToJson(const Options& options, const std::string& model, double highest_rate,
                        const std::vector<Probe>& probes, const Measurement& best);

// One JSON object per request and line, in the order of sending; times in milliseconds, `scheduled_ms` and `sent_ms`
// from the start of the run.
std::string ToJsonLines(const Measurement& run);

// One line for people.
std::string ToText(const Probe& probe);

// A few lines for people.
std::string ToText(const Results& results);

// `path` "-" is standard output.
absl::Status WriteText(const std::string& path, const std::string& text);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_REPORT_H_
