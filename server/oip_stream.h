// One ModelStreamInfer call: requests come in, and the responses of all of them go out on it, one message at a time, in
// the order in which they became ready. No more requests are read than may run at once, so a client that sends faster
// is slowed down by flow control.
#ifndef NIBBLE_SERVER_OIP_STREAM_H_
#define NIBBLE_SERVER_OIP_STREAM_H_

#include <grpcpp/support/server_callback.h>

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "server/caller.h"
#include "server/serving.h"

namespace nibble::server {

// Threads: any may call; gRPC is called without the mutex held. The end is decided under the same lock as what leads to
// it, and never while an operation is being started, so that nobody touches a call that gRPC is done with.
// Ownership: shared by gRPC until OnDone, by its places and by whoever drains it.
class OipStream final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                        public std::enable_shared_from_this<OipStream> {
 public:
  // `serving` must outlive the stream. `on_done` is called once gRPC is done with it.
  OipStream(Serving* serving, const Caller& caller, grpc::CallbackServerContext* context,
            std::function<void(OipStream*)> on_done);

  // Once.
  void Begin();
  // Takes no more requests; ends with UNAVAILABLE once those on it have ended.
  void BeginDrain();

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  class Place;  // of one request

  // For places.
  void Enqueue(Place* place, const grpc::ByteBuffer* message);
  void Leave(Place* place);

  // Starts whatever is due: the next write, the next read, the end.
  void PumpAndUnlock() ABSL_UNLOCK_FUNCTION(mu_);
  bool MayRead() const ABSL_SHARED_LOCKS_REQUIRED(mu_);
  bool MayFinish() const ABSL_SHARED_LOCKS_REQUIRED(mu_);
  std::vector<std::shared_ptr<Place>> Places();

  Serving* const serving_;
  Caller caller_;  // of the last message
  grpc::CallbackServerContext* const context_;
  const std::function<void(OipStream*)> on_done_;
  grpc::ByteBuffer request_;  // of the read in flight

  std::shared_ptr<OipStream> held_by_grpc_;

  absl::Mutex mu_;
  absl::flat_hash_map<Place*, std::shared_ptr<Place>> places_ ABSL_GUARDED_BY(mu_);
  std::deque<std::pair<std::shared_ptr<Place>, const grpc::ByteBuffer*>> queue_ ABSL_GUARDED_BY(mu_);  // [0] in flight
  int starting_ ABSL_GUARDED_BY(mu_) = 0;  // operations that are being started
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;   // the client sends no more, or has gone
  absl::Status refused_ ABSL_GUARDED_BY(mu_);  // the caller, since the stream began
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_OIP_STREAM_H_
