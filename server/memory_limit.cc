#include "server/memory_limit.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace nibble::server {
namespace {

using std::filesystem::path;

// "max", and what version 1 writes for it, are no limits.
std::optional<int64_t> ReadLimit(const path& file) {
  std::ifstream in(file);
  std::string word;
  int64_t bytes = 0;
  constexpr int64_t kNone = int64_t{1} << 60;
  if (!(in >> word) || !absl::SimpleAtoi(word, &bytes) || bytes <= 0 || bytes >= kNone) return std::nullopt;
  return bytes;
}

std::optional<int64_t> Lesser(std::optional<int64_t> a, std::optional<int64_t> b) {
  return a.has_value() && b.has_value() ? std::min(a, b) : a.has_value() ? a : b;
}

// Of a group and those above it. In a container the group's own path may not be there: its root is then the mount.
std::optional<int64_t> LeastLimit(const path& mount, absl::string_view group, const char* file) {
  std::optional<int64_t> least;
  path at = path(std::string(group)).relative_path();
  while (true) {
    least = Lesser(least, ReadLimit(mount / at / file));
    if (at.empty()) return least;
    at = at.parent_path();
  }
}

double MiB(double bytes) { return bytes / (1 << 20); }

double PerConnection(const Limits& limits) {
  return static_cast<double>(limits.outbox_bytes + limits.message_bytes + limits.header_block_bytes);
}

}  // namespace

// In double: flags may say more than can be added up in 64 bits.
double MemoryNeed::total(const Limits& limits) const {
  const double parts[] = {static_cast<double>(model), static_cast<double>(kv_pages), static_cast<double>(adapters),
                          static_cast<double>(connections) * PerConnection(limits)};
  return 1.2 * std::accumulate(std::begin(parts), std::end(parts), 0.0);
}

std::optional<int64_t> CgroupMemoryLimit(const path& root) {
  const path mounts = root / "sys/fs/cgroup";
  std::ifstream groups(root / "proc/self/cgroup");
  std::string line;
  std::optional<int64_t> least;
  while (std::getline(groups, line)) {  // "ID:CONTROLLERS:PATH", of version 2 "0::PATH"
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    if (parts[0] == "0" && parts[1].empty()) least = Lesser(least, LeastLimit(mounts, parts[2], "memory.max"));
    const std::vector<std::string> controllers = absl::StrSplit(parts[1], ',');
    if (std::find(controllers.begin(), controllers.end(), "memory") != controllers.end()) {
      least = Lesser(least, LeastLimit(mounts / "memory", parts[2], "memory.limit_in_bytes"));
    }
  }
  return least;
}

int64_t ResidentBytes(const path& root) {
  std::ifstream status(root / "proc/self/status");
  std::string line;
  int64_t all = 0;
  while (std::getline(status, line)) {
    absl::string_view rest = line;
    const bool anonymous = absl::ConsumePrefix(&rest, "RssAnon:");
    int64_t kib = 0;
    if (!anonymous && !absl::ConsumePrefix(&rest, "VmRSS:")) continue;
    if (!absl::ConsumeSuffix(&rest, "kB") || !absl::SimpleAtoi(rest, &kib)) continue;
    if (anonymous) return kib << 10;
    all = kib << 10;
  }
  return all;
}

absl::Status CheckMemory(const MemoryNeed& need, const Limits& limits, std::optional<int64_t> limit) {
  if (!limit.has_value() || need.total(limits) <= static_cast<double>(*limit)) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrFormat(
      "memory: the cgroup may take %.0f MiB, and serving may come to need %.0f: a fifth more than %.0f of the model, "
      "--kv-memory of %.0f, --adapter-memory of %.0f and --max-connections of %.2f each, together %.0f",
      MiB(static_cast<double>(*limit)), MiB(need.total(limits)), MiB(static_cast<double>(need.model)),
      MiB(static_cast<double>(need.kv_pages)), MiB(static_cast<double>(need.adapters)), MiB(PerConnection(limits)),
      MiB(static_cast<double>(need.connections) * PerConnection(limits))));
}

}  // namespace nibble::server
