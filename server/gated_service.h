// A gRPC service whose every method is raw (see wire.h) and passes the gate: a handler sees nothing of a call that is
// not let in, and is handed the caller of one that is. The way to register a method, so that none is open by oversight.
#ifndef NIBBLE_SERVER_GATED_SERVICE_H_
#define NIBBLE_SERVER_GATED_SERVICE_H_

#include <grpcpp/impl/service_type.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <functional>
#include <string>

#include "server/gate.h"

namespace nibble::server {

class GatedService : public grpc::Service {
 protected:
  using UnaryMethod =
      std::function<grpc::ServerUnaryReactor*(const Caller& caller, grpc::CallbackServerContext* context,
                                              const grpc::ByteBuffer* request, grpc::ByteBuffer* response)>;
  using StreamingMethod = std::function<grpc::ServerWriteReactor<grpc::ByteBuffer>*(
      const Caller& caller, grpc::CallbackServerContext* context, const grpc::ByteBuffer* request)>;
  using BidiMethod = std::function<grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>*(
      const Caller& caller, grpc::CallbackServerContext* context)>;

  // `gate` must outlive the service; `name` is the service's full name in its contract.
  GatedService(const Gate* gate, std::string name) : gate_(gate), name_(std::move(name)) {}

  // From the constructor, once for each method that is served.
  void AddUnary(const std::string& method, UnaryMethod run);
  // On the wire a unary answer is a stream of one message, so this may also serve a unary method.
  void AddStreaming(const std::string& method, StreamingMethod run);
  void AddBidi(const std::string& method, BidiMethod run);

 private:
  void Add(const std::string& path, grpc::internal::RpcMethod::RpcType type, grpc::internal::MethodHandler* handler);
  const std::string& PathOf(const std::string& method);

  const Gate* const gate_;
  const std::string name_;
  std::deque<std::string> paths_;  // gRPC keeps pointers to them
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_GATED_SERVICE_H_
