// What requests ask.
#ifndef NIBBLE_LOADTEST_WORKLOAD_H_
#define NIBBLE_LOADTEST_WORKLOAD_H_

#include <cstdint>
#include <vector>

#include "loadtest/lengths.h"
#include "loadtest/request.h"
#include "loadtest/trace.h"

namespace nibble::loadtest {

// Token ids are random, those of two prompts independent but where it says that they share. Vocabularies keep their
// special tokens at one of the ends: a sixteenth is left out at each.
// REQUIRES: vocab_size >= 32.
struct WorkloadOptions {
  int64_t requests = 0;
  Lengths input_tokens = Lengths::Exactly(1);
  Lengths output_tokens = Lengths::Exactly(1);
  double cancel_rate = 0;  // the share of requests that the client hangs up on, each after a random number of tokens
  int64_t vocab_size = 0;
  uint64_t seed = 0;
};

// Prompts of which no two share a prefix.
std::vector<Request> RandomRequests(const WorkloadOptions& options);

// Each prompt is one of `groups` prefixes of `tokens` tokens, the groups in turn, and then input_tokens of its own.
struct SharedPrefixes {
  int64_t groups = 1;
  int64_t tokens = 0;
};
std::vector<Request> SharedPrefixRequests(const WorkloadOptions& options, const SharedPrefixes& prefixes);

// Conversations until there are that many requests. Each turn's prompt is the whole conversation before it and then
// input_tokens of its own; answers stand in it as random tokens of their length, so that all servers are sent the same.
// The user of each turn but the first takes a think time, exponentially distributed, after the answer before it.
struct Conversations {
  Lengths turns = Lengths::Exactly(1);
  double think_time_s = 0;  // the mean
};
std::vector<Request> ChatRequests(const WorkloadOptions& options, const Conversations& conversations);

// The trace's first `requests` lines, which bring their lengths: blocks of prompts with the same id are the same
// tokens. REQUIRES: requests <= trace.size().
std::vector<Request> TraceRequests(const WorkloadOptions& options, const std::vector<TraceLine>& trace);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_WORKLOAD_H_
