// A run's figures as text and as JSON. The keys are those of vLLM's serving benchmark.
#ifndef NIBBLE_LOADTEST_REPORT_H_
#define NIBBLE_LOADTEST_REPORT_H_

#include <string>

#include "absl/status/status.h"
#include "loadtest/options.h"
#include "loadtest/runner.h"
#include "loadtest/stats.h"

namespace nibble::loadtest {

// One JSON object, indented.
std::string ToJson(const Options& options, const std::string& model, const Measurement& run, const Summary& summary);

// One JSON object per request and line, in the order of sending; times in milliseconds, `scheduled_ms` and `sent_ms`
// from the first request's schedule.
std::string ToJsonLines(const Measurement& run);

// A few lines for people.
std::string ToText(const Summary& summary);

// `path` "-" is standard output.
absl::Status WriteText(const std::string& path, const std::string& text);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_REPORT_H_
