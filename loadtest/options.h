// The command line of nibble-loadtest.
#ifndef NIBBLE_LOADTEST_OPTIONS_H_
#define NIBBLE_LOADTEST_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace nibble::loadtest {

struct Options {
  std::string target;
  std::string model;
  int64_t requests = 0;
  double rate = 0;  // requests per second; infinity: as many as max_concurrency lets go
  double burstiness = 1;
  int64_t max_concurrency = 0;  // 0: no limit
  uint64_t seed = 0;
  int64_t warmup = 0;
  std::string workload;
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  double cancel_rate = 0;
  std::string json;            // a file, "-" for standard output, or empty
  std::string requests_jsonl;  // a file, or empty
};

// Reads `words` (the command line without the program's name), as --name=value or --name value, and proves every
// value. INVALID_ARGUMENT, naming the flag, for one that is unknown, does not parse, or is out of range.
absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& words);

// Usage and every flag with its default.
std::string HelpText();

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_OPTIONS_H_
