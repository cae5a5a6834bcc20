// One SubscribeKvEvents call: a gateway hears which prefixes are cached here, and routes to them.
//
// The first batch says that nothing is known and then has every page; each further one has what changed. So a
// subscriber that comes back needs no history, whatever sequence number it resumes at. Batches are numbered from that
// number, or from 1. A subscriber that falls behind is ended, and so is one that takes nothing for
// Limits::stall_timeout; it may subscribe anew. Where even the status is not read for as long again, the call is reset.
//
// Threads: the loop's tells, gRPC's write; neither waits for the other. Owned by the registry of subscribers until
// OnDone, and by the loop while it watches.
#ifndef NIBBLE_SERVER_VLLM_KV_EVENTS_H_
#define NIBBLE_SERVER_VLLM_KV_EVENTS_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "scheduler/index_watchers.h"
#include "server/serving.h"
#include "server/stream_registry.h"
#include "smg/common.pb.h"

namespace nibble::server {

class KvEventStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                            public sched::IndexWatcher,
                            public WatchedStream,
                            public std::enable_shared_from_this<KvEventStream> {
 public:
  // Never waits. `serving` and `subscribers`, which are these streams and no others, must outlive the call.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(Serving* serving, StreamRegistry* subscribers,
                                                           grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer& request);

  void OnEvents(absl::Span<const kv::IndexEvent> events) override;
  void OnClosed() override;

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void CancelIfNamed(const std::string&, const absl::flat_hash_set<std::string>&) override {}  // it has no id

 private:
  KvEventStream(Serving* serving, StreamRegistry* subscribers, grpc::CallbackServerContext* context)
      : WatchedStream(serving->limits.stall_timeout), serving_(serving), subscribers_(subscribers), context_(context) {}
  bool AbortIfStalled(sched::Nanos since) override;
  void ResetCall() override { context_->TryCancel(); }
  absl::Status Subscribe(const grpc::ByteBuffer& request);
  void End(absl::Status status) ABSL_LOCKS_EXCLUDED(mu_);
  void EndLocked(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Pump() ABSL_LOCKS_EXCLUDED(mu_);
  smg::grpc::common::KvEventBatch NextBatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Serving* const serving_;
  StreamRegistry* const subscribers_;
  grpc::CallbackServerContext* const context_;
  grpc::ByteBuffer buffer_;  // of the write in flight
  absl::Mutex mu_;
  std::deque<kv::IndexEvent> queue_ ABSL_GUARDED_BY(mu_);
  bool told_ ABSL_GUARDED_BY(mu_) = false;     // of the pages at the beginning
  bool cleared_ ABSL_GUARDED_BY(mu_) = false;  // the first batch was written
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  sched::Nanos writing_since_ ABSL_GUARDED_BY(mu_) = 0;
  bool stalled_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;  // `status_` is to be sent
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  uint64_t next_batch_ ABSL_GUARDED_BY(mu_) = 1;
  uint64_t next_event_ ABSL_GUARDED_BY(mu_) = 1;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_VLLM_KV_EVENTS_H_
