// Unary calls of the services, whose methods are all raw: see wire.h.
#ifndef NIBBLE_SERVER_UNARY_CALL_H_
#define NIBBLE_SERVER_UNARY_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "server/serving.h"
#include "server/wire.h"

namespace nibble::server {

// `answer`: const Request& -> absl::StatusOr<message>.
template <typename Request, typename Answer>
absl::Status AnswerInto(const grpc::ByteBuffer& request, const Answer& answer, grpc::ByteBuffer* response) {
  Request message;
  absl::Status status = ParseMessage(request, &message);
  if (!status.ok()) return status;
  auto result = answer(message);
  if (result.ok()) *response = SerializeMessage(*result);
  return result.status();
}

// On the calling gRPC thread: for what takes no time, so that it is answered however full the queues are.
template <typename Request, typename Answer>
grpc::ServerUnaryReactor* AnswerNow(grpc::CallbackServerContext* context, const grpc::ByteBuffer& request,
                                    grpc::ByteBuffer* response, const Answer& answer) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(AnswerInto<Request>(request, answer, response)));
  return reactor;
}

// On a thread of `queue`, in turn with `owner`'s other tasks; RESOURCE_EXHAUSTED where too much waits for one already.
// `serving` outlives the call.
template <typename Request, typename Answer>
grpc::ServerUnaryReactor* AnswerOn(WorkQueue* queue, const std::string& owner, Serving* serving,
                                   grpc::CallbackServerContext* context, const grpc::ByteBuffer& request,
                                   grpc::ByteBuffer* response, Answer answer) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  auto claim = std::make_shared<MemoryBudget::Claim>();
  const auto work = [reactor, request, response, claim, answer = std::move(answer)] {
    const absl::Status status = AnswerInto<Request>(request, answer, response);
    *claim = {};  // before the client can know: it may use the room at once
    reactor->Finish(ToGrpcStatus(status));
  };
  const auto bytes = static_cast<int64_t>(request.Length());
  if (!serving->intake_budget->TryClaim(bytes, claim.get()) || !queue->TryPush(owner, work)) {
    AddRetryAfter(serving->retry_after, context);
    reactor->Finish(ToGrpcStatus(absl::ResourceExhaustedError("queue full: too many requests await an answer")));
  }
  return reactor;
}

// On an intake thread, in turn with all that answers so.
template <typename Request, typename Answer>
grpc::ServerUnaryReactor* AnswerLater(Serving* serving, grpc::CallbackServerContext* context,
                                      const grpc::ByteBuffer& request, grpc::ByteBuffer* response, Answer answer) {
  return AnswerOn<Request>(serving->intake, "", serving, context, request, response, std::move(answer));
}

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_UNARY_CALL_H_
