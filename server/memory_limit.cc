#include "server/memory_limit.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
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

// Of a group and those above it. In a container the group's own path may not be there: its root is then the mount.
std::optional<int64_t> LeastLimit(const path& mount, absl::string_view group, const char* file) {
  std::optional<int64_t> least;
  path at = std::string(absl::StripPrefix(group, "/"));
  while (true) {
    const std::optional<int64_t> limit = ReadLimit(mount / at / file);
    if (limit.has_value()) least = std::min(*limit, least.value_or(*limit));
    if (at.empty()) return least;
    at = at.parent_path();
  }
}

double MiB(int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

int64_t PerConnection(const Limits& limits) {
  return limits.outbox_bytes + limits.message_bytes + limits.header_block_bytes;
}

}  // namespace

int64_t MemoryNeed::total(const Limits& limits) const {
  return (loaded + kv_pages + adapters + connections * PerConnection(limits)) / 5 * 6;
}

std::optional<int64_t> CgroupMemoryLimit(const path& root) {
  std::ifstream groups(root / "proc/self/cgroup");
  std::string line;
  std::optional<int64_t> least;
  while (std::getline(groups, line)) {  // "ID:CONTROLLERS:PATH", of version 2 "0::PATH"
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const path mounts = root / "sys/fs/cgroup";
    std::optional<int64_t> limit;
    if (parts[0] == "0" && parts[1].empty()) limit = LeastLimit(mounts, parts[2], "memory.max");
    const std::vector<std::string> controllers = absl::StrSplit(parts[1], ',');
    if (std::find(controllers.begin(), controllers.end(), "memory") != controllers.end()) {
      limit = LeastLimit(mounts / "memory", parts[2], "memory.limit_in_bytes");
    }
    if (limit.has_value()) least = std::min(*limit, least.value_or(*limit));
  }
  return least;
}

int64_t ResidentBytes(const path& root) {
  std::ifstream status(root / "proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    absl::string_view rest = line;
    int64_t kib = 0;
    if (absl::ConsumePrefix(&rest, "RssAnon:") && absl::ConsumeSuffix(&rest, "kB") && absl::SimpleAtoi(rest, &kib)) {
      return kib << 10;
    }
  }
  return 0;
}

absl::Status CheckMemory(const MemoryNeed& need, const Limits& limits, std::optional<int64_t> limit) {
  if (!limit.has_value() || need.total(limits) <= *limit) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrFormat(
      "memory: the cgroup may take %.0f MiB, and serving may come to need %.0f: a fifth more than %.0f of the model, "
      "--kv-memory of %.0f, --adapter-memory of %.0f and --max-connections of %.2f each, together %.0f",
      MiB(*limit), MiB(need.total(limits)), MiB(need.loaded), MiB(need.kv_pages), MiB(need.adapters),
      MiB(PerConnection(limits)), MiB(need.connections * PerConnection(limits))));
}

}  // namespace nibble::server
