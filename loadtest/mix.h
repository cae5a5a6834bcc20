// Who sends the requests of a workload: fine-tunes, tenants and readers that stall. Drawn at random, each from a stream
// of its own, so that none changes another or the prompts. All turns of a conversation have one adapter and one tenant.
#ifndef NIBBLE_LOADTEST_MIX_H_
#define NIBBLE_LOADTEST_MIX_H_

#include <chrono>
#include <cstdint>
#include <istream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "loadtest/request.h"

namespace nibble::loadtest {

struct Adapters {
  std::vector<std::string> names;
  // The n-th name is asked for in proportion to 1 / n (Zipf's law); else all alike.
  bool zipf = false;
};
// Leaves the requests as they are where there are no names.
void AssignAdapters(const Adapters& adapters, uint64_t seed, std::vector<Request>& requests);

struct Tenant {
  std::string name;
  std::string key;
  double share = 1;  // of the requests, against the others' shares
};

// Lines of NAME KEY SHARE, blank ones and those that begin with # skipped. INVALID_ARGUMENT names `name`, the line and
// what is wrong, never a key.
absl::StatusOr<std::vector<Tenant>> ParseTenants(std::istream& lines, const std::string& name);

// Leaves the requests as they are where there are no tenants.
void AssignTenants(const std::vector<Tenant>& tenants, uint64_t seed, std::vector<Request>& requests);

struct Stalls {
  double rate = 0;  // the share of requests, those left out that are cancelled
  std::chrono::milliseconds time{0};
};
// Each stalls after a random number of tokens.
void AssignStalls(const Stalls& stalls, uint64_t seed, std::vector<Request>& requests);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_MIX_H_
