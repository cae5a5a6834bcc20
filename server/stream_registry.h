// The streams in flight, and the thread that looks for stalled ones.
#ifndef NIBBLE_SERVER_STREAM_REGISTRY_H_
#define NIBBLE_SERVER_STREAM_REGISTRY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "scheduler/request.h"

namespace nibble::server {

class WatchedStream {
 public:
  virtual ~WatchedStream() = default;
  // Aborts the stream if its reader has taken nothing for too long. Called on the watching thread.
  virtual void CheckStalled(sched::Nanos now) = 0;
  // Any thread. Cancels the request, as its client would, where it is the tenant's and its id is among these.
  virtual void CancelIfNamed(const std::string& tenant, const absl::flat_hash_set<std::string>& request_ids) = 0;
  // Any thread. Drops the connection's half of the stream, delivered or not.
  virtual void Reset() = 0;
};

class StreamRegistry {
 public:
  // Looks at every stream once per `period`.
  StreamRegistry(absl::Duration period, std::function<sched::Nanos()> clock);
  // REQUIRES: empty.
  ~StreamRegistry();

  // Any thread.
  void Add(std::shared_ptr<WatchedStream> stream);
  void Remove(WatchedStream* stream);
  int64_t size() const;
  // Waits until no stream is left; false where `timeout` came first.
  bool AwaitEmpty(absl::Duration timeout) const;
  // The same, but StopWaiting, before or meanwhile, ends it too.
  void AwaitEmptyOrStop(absl::Duration timeout) const;
  void StopWaiting();
  void ResetAll();
  // Any thread; linear in the streams. Ids that no stream of the tenant has are ignored.
  void Cancel(const std::string& tenant, const absl::flat_hash_set<std::string>& request_ids);

 private:
  void Watch();
  std::vector<std::shared_ptr<WatchedStream>> All() const ABSL_SHARED_LOCKS_REQUIRED(mu_);

  const absl::Duration period_;
  const std::function<sched::Nanos()> clock_;
  mutable absl::Mutex mu_;
  absl::flat_hash_map<WatchedStream*, std::shared_ptr<WatchedStream>> streams_ ABSL_GUARDED_BY(mu_);
  bool stop_waiting_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread watcher_;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_STREAM_REGISTRY_H_
