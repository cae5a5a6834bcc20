#include "server/adapter_registry.h"

#include <algorithm>
#include <ctime>
#include <iterator>
#include <new>

#include "absl/algorithm/container.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/adapters/delta_file.h"
#include "engine/weights/sha256.h"
#include "kvcache/base/status_macros.h"
#include "server/load_pace.h"

namespace nibble::server {
namespace {

absl::Status InQuarantine() {
  return absl::FailedPreconditionError("adapter: in quarantine, for computations with it ended in faults");
}

std::string Sha256Of(absl::Span<const std::byte> bytes, absl::FunctionRef<void()> pause) {
  constexpr size_t kPiece = 256 << 10;
  engine::Sha256 hash;
  for (size_t at = 0; at < bytes.size(); at += kPiece) {
    hash.Add(bytes.subspan(at, kPiece));
    pause();
  }
  return hash.Hex();
}

sched::Nanos WorkOfThisThread() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return int64_t{1'000'000'000} * time.tv_sec + time.tv_nsec;
}

bool IsIdle(const std::shared_ptr<AdapterVersion>& version) { return version.use_count() == 1; }

}  // namespace

AdapterLease::AdapterLease(std::shared_ptr<AdapterVersion> version) : version_(std::move(version)) {
  ++version_->waiting;
}

AdapterLease::~AdapterLease() {
  if (version_ != nullptr) --(started_ ? version_->running : version_->waiting);
}

AdapterLease::AdapterLease(AdapterLease&& other) noexcept
    : version_(std::exchange(other.version_, nullptr)), started_(other.started_), faulted_(other.faulted_) {}

AdapterLease& AdapterLease::operator=(AdapterLease&& other) noexcept {
  std::swap(version_, other.version_);
  std::swap(started_, other.started_);
  std::swap(faulted_, other.faulted_);
  return *this;
}

void AdapterLease::Started() {
  if (version_ == nullptr || started_) return;
  started_ = true;
  ++version_->running;
  --version_->waiting;
}

void AdapterLease::NoteFault() {
  if (version_ != nullptr && !std::exchange(faulted_, true)) ++version_->faults;
}

AdapterRegistry::AdapterRegistry(AdapterFolder folder, int64_t memory_bytes, Load load, std::function<bool()> busy,
                                 std::function<sched::Nanos()> clock)
    : folder_(std::move(folder)),
      memory_bytes_(memory_bytes),
      load_(std::move(load)),
      busy_(std::move(busy)),
      clock_(std::move(clock)) {}

absl::StatusOr<std::optional<AdapterLease>> AdapterRegistry::TryAcquire(const std::string& name) {
  {
    absl::MutexLock lock(&mu_);
    NIBBLE_ASSIGN_OR_RETURN(std::optional<AdapterLease> lease, Lease(name));
    if (lease.has_value()) return lease;
  }
  const absl::StatusOr<FileStamp> stamp = folder_.Stamp(name);
  absl::MutexLock lock(&mu_);
  const auto failure = failures_.find(name);
  if (failure != failures_.end()) {
    if (stamp.ok() && failure->second.stamp == *stamp) return failure->second.status;
    failures_.erase(failure);
  }
  NIBBLE_RETURN_IF_ERROR(stamp.status());
  return std::nullopt;
}

absl::StatusOr<std::optional<AdapterLease>> AdapterRegistry::Lease(const std::string& name) {
  const auto found = entries_.find(name);
  if (found == entries_.end()) return std::nullopt;
  if (found->second.version->faults >= kFaultsToQuarantine) return InQuarantine();
  found->second.last_use = clock_();
  return AdapterLease(found->second.version);
}

absl::StatusOr<AdapterLease> AdapterRegistry::Acquire(const std::string& name) {
  absl::MutexLock loading(&load_mu_);
  NIBBLE_ASSIGN_OR_RETURN(std::optional<AdapterLease> lease, TryAcquire(name));
  if (lease.has_value()) return *std::move(lease);
  NIBBLE_ASSIGN_OR_RETURN(std::shared_ptr<AdapterVersion> version, LoadVersion(name, std::nullopt));
  return AdapterLease(std::move(version));
}

absl::StatusOr<AdapterInfo> AdapterRegistry::LoadNow(const std::string& name, bool pinned) {
  absl::MutexLock loading(&load_mu_);
  NIBBLE_ASSIGN_OR_RETURN(const std::shared_ptr<AdapterVersion> version, LoadVersion(name, pinned));
  return AdapterInfo{.name = name,
                     .state = AdapterState::kLoaded,
                     .sha256 = version->sha256,
                     .bytes = version->adapter->bytes(),
                     .pinned = pinned,
                     .last_use = clock_()};
}

absl::StatusOr<std::shared_ptr<AdapterVersion>> AdapterRegistry::LoadVersion(const std::string& name,
                                                                             std::optional<bool> pinned) {
  const sched::Nanos start = clock_();
  const absl::StatusOr<FileStamp> stamp = folder_.Stamp(name);
  absl::StatusOr<std::shared_ptr<AdapterVersion>> version = ReadVersion(name);
  if (version.ok() && stamp.ok()) (*version)->stamp = *stamp;
  Versions garbage;
  absl::MutexLock lock(&mu_);
  const absl::Status status = version.ok() ? Install(name, *version, pinned, &garbage) : version.status();
  counts_.load_time += clock_() - start;
  ++(status.ok() ? counts_.loads : counts_.failed_loads);
  failures_.erase(name);
  if (status.ok()) return version;
  const bool never_fits = version.ok() && (*version)->adapter->bytes() > memory_bytes_;
  if ((absl::IsFailedPrecondition(status) || never_fits) && stamp.ok()) failures_[name] = {*stamp, status};
  return status;
}

absl::StatusOr<std::shared_ptr<AdapterVersion>> AdapterRegistry::ReadVersion(const std::string& name) try {
  const int64_t most = std::min<int64_t>(memory_bytes_, engine::kMaxDeltaBytes);
  LoadPace pace(busy_, WorkOfThisThread, [](sched::Nanos time) { absl::SleepFor(absl::Nanoseconds(time)); });
  const auto pause = [&pace] { pace.Pause(); };
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, folder_.Read(name, most, pause));
  auto version = std::make_shared<AdapterVersion>();
  version->name = name;
  version->sha256 = Sha256Of(bytes, pause);
  NIBBLE_ASSIGN_OR_RETURN(version->adapter, load_(bytes, pause));
  return version;
} catch (const std::bad_alloc&) {
  return absl::ResourceExhaustedError("adapter: no memory is left for it");
}

absl::Status AdapterRegistry::Install(const std::string& name, std::shared_ptr<AdapterVersion> version,
                                      std::optional<bool> pinned, Versions* garbage) {
  Collect(garbage);
  std::vector<std::map<std::string, Entry>::iterator> evictable;
  int64_t to_keep = BytesInUse();
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    const bool replaced = it->first == name;
    if (!IsIdle(it->second.version) || (it->second.pinned && !replaced)) continue;
    to_keep -= it->second.version->adapter->bytes();
    if (!replaced) evictable.push_back(it);
  }
  const int64_t needed = version->adapter->bytes();
  if (to_keep + needed > memory_bytes_) {
    return absl::ResourceExhaustedError("adapter: no memory is left for it");
  }
  Entry& entry = entries_[name];
  if (entry.version != nullptr) retired_.push_back(std::move(entry.version));
  entry = {std::move(version), pinned.value_or(entry.pinned), clock_()};
  Collect(garbage);
  absl::c_sort(evictable, [](const auto& a, const auto& b) { return a->second.last_use < b->second.last_use; });
  for (auto it = evictable.begin(); BytesInUse() > memory_bytes_; ++it) {
    const AdapterVersion& version = *(*it)->second.version;
    // Else the next request would take it out of quarantine.
    if (version.faults >= kFaultsToQuarantine) failures_[version.name] = {version.stamp, InQuarantine()};
    garbage->push_back(std::move((*it)->second.version));
    entries_.erase(*it);
    ++counts_.evictions;
  }
  return absl::OkStatus();
}

int64_t AdapterRegistry::BytesInUse() const {
  int64_t bytes = 0;
  for (const auto& [name, entry] : entries_) bytes += entry.version->adapter->bytes();
  for (const std::shared_ptr<AdapterVersion>& version : retired_) bytes += version->adapter->bytes();
  return bytes;
}

void AdapterRegistry::Collect(Versions* garbage) {
  const auto in_use = std::partition(retired_.begin(), retired_.end(),
                                     [](const std::shared_ptr<AdapterVersion>& version) { return !IsIdle(version); });
  std::move(in_use, retired_.end(), std::back_inserter(*garbage));
  retired_.erase(in_use, retired_.end());
}

absl::Status AdapterRegistry::Unload(const std::string& name) {
  Versions garbage;
  absl::MutexLock lock(&mu_);
  const auto found = entries_.find(name);
  if (found == entries_.end()) return absl::NotFoundError("adapter: not loaded");
  retired_.push_back(std::move(found->second.version));
  entries_.erase(found);
  Collect(&garbage);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<AdapterInfo>> AdapterRegistry::List() {
  std::map<std::string, AdapterInfo> all;
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<std::string> names, folder_.Names());
  for (const std::string& name : names) all[name].name = name;
  {
    absl::MutexLock lock(&mu_);
    for (const auto& [name, entry] : entries_) {
      const AdapterVersion& version = *entry.version;
      const bool quarantined = version.faults >= kFaultsToQuarantine;
      all[name] = {.name = name,
                   .state = quarantined ? AdapterState::kQuarantined : AdapterState::kLoaded,
                   .sha256 = version.sha256,
                   .bytes = version.adapter->bytes(),
                   .pinned = entry.pinned,
                   .waiting = version.waiting,
                   .running = version.running,
                   .last_use = entry.last_use};
    }
  }
  std::vector<AdapterInfo> infos;
  for (auto& [name, info] : all) infos.push_back(std::move(info));
  return infos;
}

AdapterCounts AdapterRegistry::Counts() {
  Versions garbage;
  absl::MutexLock lock(&mu_);
  Collect(&garbage);
  AdapterCounts counts = counts_;
  counts.loaded = static_cast<int64_t>(entries_.size());
  counts.bytes = BytesInUse();
  for (const auto& [name, entry] : entries_) {
    if (entry.version->running > 0) counts.running.push_back(name);
    if (entry.version->waiting > 0) counts.waiting.push_back(name);
  }
  return counts;
}

}  // namespace nibble::server
