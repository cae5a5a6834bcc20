#include "server/gated_service.h"

#include <grpcpp/impl/codegen/server_callback_handlers.h>
#include <grpcpp/impl/rpc_service_method.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/wire.h"

namespace nibble::server {
namespace {

using grpc::ByteBuffer;
using grpc::CallbackServerContext;

// A call that ends with a status before it has begun.
template <typename Reactor>
class Refused final : public Reactor {
 public:
  explicit Refused(const absl::Status& status) { this->Finish(ToGrpcStatus(status)); }
  void OnDone() override { delete this; }
};

}  // namespace

void GatedService::AddUnary(const std::string& method, UnaryMethod run) {
  const std::string& path = PathOf(method);
  const auto enter = [this, &path, run = std::move(run)](CallbackServerContext* context, const ByteBuffer* request,
                                                         ByteBuffer* response) -> grpc::ServerUnaryReactor* {
    const absl::StatusOr<Caller> caller = gate_->Enter(path, *context);
    if (!caller.ok()) return new Refused<grpc::ServerUnaryReactor>(caller.status());
    return run(*caller, context, request, response);
  };
  Add(path, grpc::internal::RpcMethod::NORMAL_RPC,
      new grpc::internal::CallbackUnaryHandler<ByteBuffer, ByteBuffer>(enter));
}

void GatedService::AddStreaming(const std::string& method, StreamingMethod run) {
  const std::string& path = PathOf(method);
  const auto enter = [this, &path, run = std::move(run)](
                         CallbackServerContext* context,
                         const ByteBuffer* request) -> grpc::ServerWriteReactor<ByteBuffer>* {
    const absl::StatusOr<Caller> caller = gate_->Enter(path, *context);
    if (!caller.ok()) return new Refused<grpc::ServerWriteReactor<ByteBuffer>>(caller.status());
    return run(*caller, context, request);
  };
  Add(path, grpc::internal::RpcMethod::SERVER_STREAMING,
      new grpc::internal::CallbackServerStreamingHandler<ByteBuffer, ByteBuffer>(enter));
}

void GatedService::AddBidi(const std::string& method, BidiMethod run) {
  const std::string& path = PathOf(method);
  const auto enter = [this, &path, run = std::move(run)](
                         CallbackServerContext* context) -> grpc::ServerBidiReactor<ByteBuffer, ByteBuffer>* {
    const absl::StatusOr<Caller> caller = gate_->Enter(path, *context);
    if (!caller.ok()) return new Refused<grpc::ServerBidiReactor<ByteBuffer, ByteBuffer>>(caller.status());
    return run(*caller, context);
  };
  Add(path, grpc::internal::RpcMethod::BIDI_STREAMING,
      new grpc::internal::CallbackBidiHandler<ByteBuffer, ByteBuffer>(enter));
}

const std::string& GatedService::PathOf(const std::string& method) {
  return paths_.emplace_back(absl::StrCat("/", name_, "/", method));
}

void GatedService::Add(const std::string& path, grpc::internal::RpcMethod::RpcType type,
                       grpc::internal::MethodHandler* handler) {
  AddMethod(new grpc::internal::RpcServiceMethod(path.c_str(), type, nullptr));
  MarkMethodRawCallback(static_cast<int>(paths_.size()) - 1, handler);
}

}  // namespace nibble::server
