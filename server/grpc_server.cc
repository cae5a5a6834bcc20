#include "server/grpc_server.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "kserve/inference.grpc.pb.h"
#include "kvcache/base/status_macros.h"
#include "nibble/v1/inference.grpc.pb.h"
#include "server/adapters_service.h"
#include "server/health_service.h"
#include "server/inference_service.h"
#include "server/listener.h"
#include "server/oip_service.h"
#include "server/vllm_service.h"
#include "server/wire.h"
#include "vllm/engine.grpc.pb.h"

namespace nibble::server {
namespace {

int Milliseconds(absl::Duration duration) { return static_cast<int>(absl::ToInt64Milliseconds(duration)); }

void ApplyLimits(const Limits& limits, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(limits.message_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, limits.header_block_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, limits.streams_per_connection);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, Milliseconds(limits.handshake_timeout));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(limits.keepalive_time));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Milliseconds(limits.keepalive_timeout));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Clients that ping while they wait for a long prefill are not to be taken for a flood (gRPC's default: 5 minutes).
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             Milliseconds(limits.least_ping_interval));
  // A compressed message declares nothing about its size: refused.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
}

// They write on stderr what anyone may provoke, with addresses of clients in it.
void SilenceLibraries() {
  google::protobuf::SetLogHandler(nullptr);
  gpr_set_log_function([](gpr_log_func_args*) {});
}

std::shared_ptr<grpc::ServerCredentials> Credentials(const Serving& serving) {
  if (serving.certificates == nullptr) return grpc::InsecureServerCredentials();
  return serving.certificates->MakeCredentials();
}

// What no service registered. Who is not let in does not learn which methods there are.
class Fallback final : public grpc::CallbackGenericService {
 public:
  explicit Fallback(const Gate* gate) : gate_(gate) {}

  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    const absl::Status entered = gate_->Enter("", *context).status();
    return new Reactor(absl::IsPermissionDenied(entered)
                           ? grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "no such method")
                           : ToGrpcStatus(entered));
  }

 private:
  class Reactor final : public grpc::ServerGenericBidiReactor {
   public:
    explicit Reactor(const grpc::Status& status) { Finish(status); }
    void OnDone() override { delete this; }
  };

  const Gate* const gate_;
};

// gRPC's own reflection passes no gate.
class WithoutReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    plugins->erase(std::remove_if(plugins->begin(), plugins->end(),
                                  [](const auto& plugin) { return plugin->name() == "proto_server_reflection"; }),
                   plugins->end());
  }
};

}  // namespace

struct GrpcServer::Parts {
  explicit Parts(Serving* serving)
      : native(MakeInferenceService(serving)),
        adapters(MakeAdaptersService(serving)),
        vllm(MakeVllmService(serving)),
        oip(serving),
        fallback(serving->gate),
        health({v1::Inference::service_full_name(), vllm::grpc::engine::VllmEngine::service_full_name(),
                inference::GRPCInferenceService::service_full_name()}) {}

  std::unique_ptr<grpc::Service> native, adapters, vllm;
  OipService oip;
  Fallback fallback;
  HealthService health;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor;
  std::unique_ptr<grpc::Server> server;  // destroyed before the services
  std::unique_ptr<Listener> listener;
};

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const std::string& address, Serving* serving) {
  SilenceLibraries();
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  auto parts = std::make_unique<Parts>(serving);
  const Limits& limits = serving->limits;
  NIBBLE_ASSIGN_OR_RETURN(parts->listener, Listener::Bind(address, {.connections = limits.connections,
                                                                    .unacked_timeout = limits.keepalive_timeout}));
  grpc::ServerBuilder builder;
  ApplyLimits(limits, builder);
  using ByDescriptor = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
  parts->acceptor = builder.experimental().AddExternalConnectionAcceptor(ByDescriptor::FROM_FD, Credentials(*serving));
  builder.RegisterService(parts->native.get());
  builder.RegisterService(parts->adapters.get());
  builder.RegisterService(parts->vllm.get());
  builder.RegisterService(parts->oip.service());
  builder.RegisterService(&parts->health);
  builder.RegisterCallbackGenericService(&parts->fallback);
  if (serving->gate->has_tenants()) builder.SetOption(std::make_unique<WithoutReflection>());
  parts->server = builder.BuildAndStart();
  if (parts->server == nullptr) return absl::UnavailableError("the gRPC server does not start");
  parts->listener->Start([acceptor = parts->acceptor.get()](int fd) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
    connection.fd = fd;
    acceptor->HandleNewConnection(&connection);
  });
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(parts)));
}

GrpcServer::GrpcServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

GrpcServer::~GrpcServer() { Shutdown(absl::ZeroDuration()); }

const std::string& GrpcServer::address() const { return parts_->listener->address(); }

bool GrpcServer::full() const { return parts_->listener->full(); }

int64_t GrpcServer::watches() const { return parts_->health.watchers(); }

void GrpcServer::BeginDrain() {
  parts_->health.BeginDrain();
  parts_->oip.BeginDrain();
}

void GrpcServer::Shutdown(absl::Duration grace) {
  BeginDrain();
  parts_->listener->Stop();
  parts_->server->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace));
}

bool AnswersHealthCheck(const std::string& address, absl::Duration timeout) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  const auto stub = grpc::health::v1::Health::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
  grpc::health::v1::HealthCheckResponse response;
  return stub->Check(&context, grpc::health::v1::HealthCheckRequest(), &response).ok();
}

}  // namespace nibble::server
