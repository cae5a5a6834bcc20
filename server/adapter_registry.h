// Which fine-tunes are in memory: loaded on first use or by an operator, evicted least recently used first when memory
// ends, replaced under traffic. A version, once loaded, does not change: whoever runs with it keeps it until done.
//
// Any thread. Nothing is freed on the thread that ends a request: the registry frees what it has let go when it is
// called next.
#ifndef NIBBLE_SERVER_ADAPTER_REGISTRY_H_
#define NIBBLE_SERVER_ADAPTER_REGISTRY_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "scheduler/request.h"
#include "server/adapter_folder.h"

namespace nibble::server {

// One loaded file.
struct AdapterVersion {
  std::string name;
  std::string sha256;  // of the file, in hex: what the version is, whatever its name
  FileStamp stamp;     // of the file
  std::unique_ptr<const engine::Adapter> adapter;
  std::atomic<int64_t> waiting = 0, running = 0;  // requests, before and after their first token
  std::atomic<int64_t> faults = 0;                // of computations with it
};

// One request's use of a version; counted as waiting until Started.
class AdapterLease {
 public:
  AdapterLease() = default;
  explicit AdapterLease(std::shared_ptr<AdapterVersion> version);
  ~AdapterLease();
  AdapterLease(AdapterLease&& other) noexcept;
  AdapterLease& operator=(AdapterLease&& other) noexcept;

  const std::shared_ptr<AdapterVersion>& version() const { return version_; }  // nullptr: none
  void Started();
  // The computation ended in a fault; of one lease the first counts.
  void NoteFault();

 private:
  std::shared_ptr<AdapterVersion> version_;
  bool started_ = false;
  bool faulted_ = false;
};

enum class AdapterState { kOnDisk, kLoaded, kQuarantined };

struct AdapterInfo {
  std::string name;
  AdapterState state = AdapterState::kOnDisk;
  std::string sha256;   // where loaded, as all below
  int64_t bytes = 0;    // of memory
  bool pinned = false;  // never evicted
  int64_t waiting = 0, running = 0;
  sched::Nanos last_use = 0;  // by the clock given
};

struct AdapterCounts {
  int64_t loaded = 0, bytes = 0, loads = 0, failed_loads = 0, evictions = 0;
  sched::Nanos load_time = 0;                 // of all loads together
  std::vector<std::string> running, waiting;  // names that requests run with, or wait with, in order
};

class AdapterRegistry {
 public:
  // Makes an adapter of a file's bytes, with `pause` called between pieces of the work; FAILED_PRECONDITION says what
  // is wrong with them.
  using Load = std::function<absl::StatusOr<std::unique_ptr<const engine::Adapter>>(absl::Span<const std::byte>,
                                                                                    absl::FunctionRef<void()> pause)>;

  static constexpr int64_t kFaultsToQuarantine = 3;

  // `busy`, of any thread: whether a step runs, so that loads go slower (load_pace.h).
  AdapterRegistry(AdapterFolder folder, int64_t memory_bytes, Load load, std::function<bool()> busy,
                  std::function<sched::Nanos()> clock);

  // For a request; never reads a file. nullopt: there is a file that Acquire would have to load. NOT_FOUND: there is
  // none. FAILED_PRECONDITION: loading it failed and the file has not changed since, or it is in quarantine.
  absl::StatusOr<std::optional<AdapterLease>> TryAcquire(const std::string& name);
  // As TryAcquire, but loads where it has to, which takes as long as reading the file. Further errors are Load's.
  absl::StatusOr<AdapterLease> Acquire(const std::string& name);

  // For an operator. Reads the file anew, whatever is loaded; all or nothing: on an error what was loaded still serves.
  // RESOURCE_EXHAUSTED: memory is in use by pinned adapters and running requests, or the system has none.
  absl::StatusOr<AdapterInfo> LoadNow(const std::string& name, bool pinned);
  // New requests do not find it in memory; running ones go on. NOT_FOUND: it is not loaded.
  absl::Status Unload(const std::string& name);
  // All that are loaded or lie in the folder, by name.
  absl::StatusOr<std::vector<AdapterInfo>> List();

  AdapterCounts Counts();

 private:
  struct Entry {
    std::shared_ptr<AdapterVersion> version;
    bool pinned = false;
    sched::Nanos last_use = 0;
  };
  struct Failure {
    FileStamp stamp;
    absl::Status status;
  };
  using Versions = std::vector<std::shared_ptr<AdapterVersion>>;

  absl::StatusOr<std::shared_ptr<AdapterVersion>> ReadVersion(const std::string& name);
  absl::StatusOr<std::shared_ptr<AdapterVersion>> LoadVersion(const std::string& name, std::optional<bool> pinned);
  absl::Status Install(const std::string& name, std::shared_ptr<AdapterVersion> version, std::optional<bool> pinned,
                       Versions* garbage) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<std::optional<AdapterLease>> Lease(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  int64_t BytesInUse() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // What nobody uses any more goes to `garbage`, to be freed without the mutex.
  void Collect(Versions* garbage) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const AdapterFolder folder_;
  const int64_t memory_bytes_;
  const Load load_;
  const std::function<bool()> busy_;
  const std::function<sched::Nanos()> clock_;

  absl::Mutex load_mu_;  // one load at a time, so that memory holds one file; before mu_
  mutable absl::Mutex mu_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, Failure> failures_ ABSL_GUARDED_BY(mu_);  // of files that are there
  Versions retired_ ABSL_GUARDED_BY(mu_);                         // replaced, unloaded or evicted; perhaps still in use
  AdapterCounts counts_ ABSL_GUARDED_BY(mu_);                     // but for what is counted anew each time
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_ADAPTER_REGISTRY_H_
