// What requests ask.
#ifndef NIBBLE_LOADTEST_WORKLOAD_H_
#define NIBBLE_LOADTEST_WORKLOAD_H_

#include <cstdint>
#include <vector>

#include "loadtest/request.h"

namespace nibble::loadtest {

struct RandomWorkload {
  int64_t requests = 0;
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  double cancel_rate = 0;  // the share of requests that the client hangs up on, each after a random number of tokens
  int64_t vocab_size = 0;
  uint64_t seed = 0;
};

// Prompts of independent random token ids. No two prompts share a prefix, except by chance. Vocabularies keep their
// special tokens at one of the ends: a sixteenth is left out at each.
// REQUIRES: vocab_size >= 32, input_tokens >= 1, output_tokens >= 1.
std::vector<Request> MakeRequests(const RandomWorkload& workload);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_WORKLOAD_H_
