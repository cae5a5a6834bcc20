// Whether what the daemon may come to need fits what its cgroup may take: a container above its limit is killed, with
// all that it serves, long after the mistake was made.
#ifndef NIBBLE_SERVER_MEMORY_LIMIT_H_
#define NIBBLE_SERVER_MEMORY_LIMIT_H_

#include <cstdint>
#include <filesystem>
#include <optional>

#include "absl/status/status.h"
#include "server/limits.h"

namespace nibble::server {

// In bytes.
struct MemoryNeed {
  int64_t model = 0;        // resident once it is loaded, and what its steps will write beside KV pages
  int64_t kv_pages = 0;     // --kv-memory
  int64_t adapters = 0;     // --adapter-memory, where adapters are served
  int64_t connections = 0;  // how many at once

  // A fifth more than all of it, each connection with a message that comes and an answer that is not read. The fifth is
  // for what all requests together may claim (grammars, log probabilities, prompts at the door) and for the reserve.
  double total(const Limits& limits) const;
};

// The least limit of the cgroups that this process is in, version 1 or 2; nullopt: none that could be found. `root`: of
// the file system, for tests.
std::optional<int64_t> CgroupMemoryLimit(const std::filesystem::path& root = "/");

// Of this process now: anonymous memory where the system tells it apart, else all; 0 where it does not say.
int64_t ResidentBytes(const std::filesystem::path& root = "/");

// FAILED_PRECONDITION, with the sum and what can be made smaller.
absl::Status CheckMemory(const MemoryNeed& need, const Limits& limits, std::optional<int64_t> limit);

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_MEMORY_LIMIT_H_
