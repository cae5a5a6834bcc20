// The command line of nibble-loadtest.
#ifndef NIBBLE_LOADTEST_OPTIONS_H_
#define NIBBLE_LOADTEST_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "loadtest/client.h"
#include "loadtest/lengths.h"
#include "loadtest/mix.h"
#include "loadtest/slo.h"
#include "loadtest/steady_state.h"
#include "loadtest/trace.h"
#include "loadtest/workload.h"

namespace nibble::loadtest {

struct Options {
  std::string scenario;  // a file of flags, or empty
  std::string target;
  std::string model;
  Tls tls;
  int64_t requests = 0;
  double rate = 0;  // requests per second; infinity: as many as max_concurrency lets go
  double burstiness = 1;
  double ramp_from = 0;
  int64_t max_concurrency = 0;  // 0: no limit
  uint64_t seed = 0;
  int64_t warmup = 0;
  std::string workload;
  std::vector<TraceLine> trace;  // of the workload trace: at least `requests` lines
  Lengths input_tokens = Lengths::Exactly(1);
  Lengths output_tokens = Lengths::Exactly(1);
  SharedPrefixes prefixes;
  Conversations conversations;
  double cancel_rate = 0;
  Stalls stalls;
  Adapters adapters;
  std::vector<Tenant> tenants;
  std::string slo_text;
  std::optional<Slo> slo;
  bool sweep = false;
  std::optional<Cut> steady_state;
  std::string metrics_url;     // or empty
  std::string json;            // a file, "-" for standard output, or empty
  std::string html;            // a file, or empty
  std::string requests_jsonl;  // a file, or empty
};

// Reads `words` (the command line without the program's name), as --name=value or --name value, and proves every
// value. Flags of the file that --scenario names count where `words` do not say otherwise. INVALID_ARGUMENT, naming the
// flag, for one that is unknown, does not parse, or is out of range.
absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& words);

// Usage and every flag with its default.
std::string HelpText();

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_OPTIONS_H_
