// A server-streaming RPC that is one generation: gRPC's reactor as the transport of a GenerateStream.
#ifndef NIBBLE_SERVER_STREAMING_CALL_H_
#define NIBBLE_SERVER_STREAMING_CALL_H_

#include <grpcpp/support/server_callback.h>

#include <memory>

#include "server/generate_stream.h"

namespace nibble::server {

// When the client wants the answer no longer, in the loop's time.
sched::Nanos DeadlineOf(const grpc::ServerContextBase& context, sched::Nanos now);

// Never waits. `serving` must outlive the call; `context` and the returned reactor are gRPC's business.
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartStreamingCall(Serving* serving, std::unique_ptr<GenerateWire> wire,
                                                               const Caller& caller,
                                                               grpc::CallbackServerContext* context,
                                                               const grpc::ByteBuffer& request);

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_STREAMING_CALL_H_
