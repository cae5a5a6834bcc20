// Whether a run says anything of the server.
#ifndef NIBBLE_LOADTEST_VERDICT_H_
#define NIBBLE_LOADTEST_VERDICT_H_

#include "absl/status/status.h"
#include "loadtest/runner.h"
#include "loadtest/stats.h"

namespace nibble::loadtest {

// RESOURCE_EXHAUSTED where this machine, and not the server, set the figures: it came late to its own schedule, or it
// had no CPU time left to come sooner.
absl::Status CheckClient(const Measurement& run, const Summary& summary);

// UNKNOWN, with the first failure in the server's words, where any request failed; else CheckClient.
absl::Status Judge(const Measurement& run, const Summary& summary);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_VERDICT_H_
