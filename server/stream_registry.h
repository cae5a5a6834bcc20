// The streams in flight, and the thread that looks for stalled ones.
#ifndef NIBBLE_SERVER_STREAM_REGISTRY_H_
#define NIBBLE_SERVER_STREAM_REGISTRY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
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
  // Watching thread. Aborts the stream if its reader has taken nothing for `patience`, and resets it where even the
  // status is not read for as long again.
  void CheckStalled(sched::Nanos now);
  // Any thread. Cancels the request, as its client would, where it is the tenant's and its id is among these.
  virtual void CancelIfNamed(const std::string& tenant, const absl::flat_hash_set<std::string>& request_ids) = 0;
  // Any thread. Drops the connection's half of the stream, delivered or not.
  void Reset();

 protected:
  explicit WatchedStream(absl::Duration patience) : patience_(absl::ToInt64Nanoseconds(patience)) {}
  // The call is about to be gone: no reset is under way when this returns, and none will come.
  void NoteDone();

 private:
  // Where the reader has not taken what it was given at `since` or before: aborts the stream, after which the status is
  // all that may be sent, and returns true. To look and to decide is one step, as the reader may be back at any time.
  virtual bool AbortIfStalled(sched::Nanos since) = 0;
  // Not after NoteDone.
  virtual void ResetCall() = 0;

  const sched::Nanos patience_;
  std::optional<sched::Nanos> stalled_since_;  // watching thread
  absl::Mutex done_mu_;
  bool done_ ABSL_GUARDED_BY(done_mu_) = false;
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
