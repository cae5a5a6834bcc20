// Recorded traffic to replay.
#ifndef NIBBLE_LOADTEST_TRACE_H_
#define NIBBLE_LOADTEST_TRACE_H_

#include <cstdint>
#include <istream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace nibble::loadtest {

// One line of a trace as Mooncake publishes them (https://github.com/kvcache-ai/Mooncake, FAST25-release/traces).
struct TraceLine {
  double timestamp_ms = 0;
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  // One per kTraceBlockTokens of the prompt; prompts whose ids begin alike begin alike. May be empty or too short: what
  // no id covers is shared with no other prompt.
  std::vector<uint64_t> hash_ids;
};

constexpr int64_t kTraceBlockTokens = 512;

// One JSON object a line: `timestamp` (milliseconds, not falling), `input_length`, `output_length`, and optionally
// `hash_ids`; blank lines and other keys are skipped. INVALID_ARGUMENT names `name`, the line's number and the key.
absl::StatusOr<std::vector<TraceLine>> ParseTrace(std::istream& lines, const std::string& name);

// INVALID_ARGUMENT also where the file cannot be read.
absl::StatusOr<std::vector<TraceLine>> ReadTrace(const std::string& path);

// When each line is due, in seconds from the first. A finite `rate` stretches the times evenly so that lines come at
// that many a second on average; infinity keeps them. REQUIRES: rate > 0.
std::vector<double> TraceSeconds(const std::vector<TraceLine>& trace, double rate);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_TRACE_H_
