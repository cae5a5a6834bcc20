// Messages to and from gRPC's buffers. Every method of our services is registered raw, so that a message that does not
// parse (also: a `string` that is no UTF-8) is INVALID_ARGUMENT and not gRPC's own guess. Any thread.
#ifndef NIBBLE_SERVER_WIRE_H_
#define NIBBLE_SERVER_WIRE_H_

#include <google/protobuf/message.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "scheduler/request.h"

namespace nibble::server {

grpc::Status ToGrpcStatus(const absl::Status& status);
absl::Status ParseMessage(const grpc::ByteBuffer& buffer, google::protobuf::Message* message);
grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message);
// Trailing metadata for a client that is told to come again.
void AddRetryAfter(sched::Nanos wait, grpc::CallbackServerContext* context);

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_WIRE_H_
