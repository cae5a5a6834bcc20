#include "server/streaming_call.h"

#include <grpc/support/time.h>
#include <grpcpp/server_context.h>

#include <utility>

#include "server/wire.h"

namespace nibble::server {
namespace {

// A timeout beyond this is none: it may be up to 99999999 hours, which no count of nanoseconds holds.
constexpr int64_t kLongestTimeoutSeconds = int64_t{10} * 365 * 24 * 3600;

// Owns itself until gRPC is done with it.
class StreamingCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>, public AnswerTransport {
 public:
  StreamingCall(Serving* serving, std::unique_ptr<GenerateWire> wire, const Caller& caller,
                grpc::CallbackServerContext* context)
      : context_(context),
        stream_(std::make_shared<GenerateStream>(serving, std::move(wire), caller, this,
                                                 DeadlineOf(*context, serving->clock()))) {}

  void Begin(const grpc::ByteBuffer& request) { stream_->Begin(request); }

  void Write(const grpc::ByteBuffer* message) override { StartWrite(message); }
  void End(const grpc::Status& status) override { Finish(status); }
  void SetRetryAfter(sched::Nanos wait) override { AddRetryAfter(wait, context_); }
  void Reset() override { context_->TryCancel(); }

  void OnWriteDone(bool ok) override { stream_->OnWritten(ok); }
  void OnCancel() override { stream_->OnCancel(); }
  void OnDone() override {
    stream_->OnDone();
    delete this;
  }

 private:
  grpc::CallbackServerContext* const context_;
  const std::shared_ptr<GenerateStream> stream_;
};

}  // namespace

sched::Nanos DeadlineOf(const grpc::ServerContextBase& context, sched::Nanos now) {
  const gpr_timespec left =
      gpr_time_sub(gpr_convert_clock_type(context.raw_deadline(), GPR_CLOCK_MONOTONIC), gpr_now(GPR_CLOCK_MONOTONIC));
  if (left.tv_sec < 0) return now;
  if (left.tv_sec > kLongestTimeoutSeconds) return sched::kNoDeadline;
  return now + left.tv_sec * 1'000'000'000 + left.tv_nsec;
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartStreamingCall(Serving* serving, std::unique_ptr<GenerateWire> wire,
                                                               const Caller& caller,
                                                               grpc::CallbackServerContext* context,
                                                               const grpc::ByteBuffer& request) {
  auto* call = new StreamingCall(serving, std::move(wire), caller, context);  // OnDone deletes it
  call->Begin(request);
  return call;
}

}  // namespace nibble::server
