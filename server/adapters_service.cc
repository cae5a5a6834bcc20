#include "server/adapters_service.h"

#include <functional>
#include <utility>

#include "kvcache/base/status_macros.h"
#include "nibble/v1/adapters.grpc.pb.h"
#include "server/adapter_registry.h"
#include "server/gated_service.h"
#include "server/log.h"
#include "server/unary_call.h"

namespace nibble::server {
namespace {

using grpc::ByteBuffer;
using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

v1::AdapterState ToMessage(AdapterState state) {
  switch (state) {
    case AdapterState::kOnDisk:
      return v1::ADAPTER_STATE_ON_DISK;
    case AdapterState::kLoaded:
      return v1::ADAPTER_STATE_LOADED;
    case AdapterState::kQuarantined:
      break;
  }
  return v1::ADAPTER_STATE_QUARANTINED;
}

v1::Adapter ToMessage(const AdapterInfo& info, sched::Nanos now) {
  v1::Adapter message;
  message.set_name(info.name);
  message.set_state(ToMessage(info.state));
  if (info.state == AdapterState::kOnDisk) return message;
  message.set_sha256(info.sha256);
  message.set_bytes(info.bytes);
  message.set_pinned(info.pinned);
  message.set_waiting(info.waiting);
  message.set_running(info.running);
  message.set_idle_seconds(static_cast<double>(now - info.last_use) * 1e-9);
  return message;
}

absl::Status CheckName(const std::string& name) {
  if (IsAdapterName(name)) return absl::OkStatus();
  return absl::InvalidArgumentError("name: is not 1 to 64 letters, digits, '.', '_' and '-', the first no '.'");
}

class AdaptersService final : public GatedService {
 public:
  explicit AdaptersService(Serving* serving)
      : GatedService(serving->gate, v1::Adapters::service_full_name()), serving_(serving) {
    AddUnary("Load", std::bind_front(&AdaptersService::Load, this));
    AddUnary("Unload", std::bind_front(&AdaptersService::Unload, this));
    AddUnary("List", std::bind_front(&AdaptersService::List, this));
  }

 private:
  ServerUnaryReactor* Load(const Caller& caller, CallbackServerContext* context, const ByteBuffer* request,
                           ByteBuffer* response) {
    return Answer<v1::LoadAdapterRequest>(
        caller, context, *request, response,
        [this](const v1::LoadAdapterRequest& message, AdapterRegistry& adapters) -> absl::StatusOr<v1::Adapter> {
          NIBBLE_RETURN_IF_ERROR(CheckName(message.name()));
          NIBBLE_ASSIGN_OR_RETURN(const AdapterInfo info, adapters.LoadNow(message.name(), message.pinned()));
          LogInfo("adapter loaded", {{"name", info.name}, {"sha256", info.sha256}, {"bytes", info.bytes}});
          return ToMessage(info, serving_->clock());
        });
  }

  ServerUnaryReactor* Unload(const Caller& caller, CallbackServerContext* context, const ByteBuffer* request,
                             ByteBuffer* response) {
    return Answer<v1::UnloadAdapterRequest>(caller, context, *request, response,
                                            [](const v1::UnloadAdapterRequest& message,
                                               AdapterRegistry& adapters) -> absl::StatusOr<v1::UnloadAdapterResponse> {
                                              NIBBLE_RETURN_IF_ERROR(CheckName(message.name()));
                                              NIBBLE_RETURN_IF_ERROR(adapters.Unload(message.name()));
                                              LogInfo("adapter unloaded", {{"name", message.name()}});
                                              return v1::UnloadAdapterResponse();
                                            });
  }

  ServerUnaryReactor* List(const Caller& caller, CallbackServerContext* context, const ByteBuffer* request,
                           ByteBuffer* response) {
    return Answer<v1::ListAdaptersRequest>(
        caller, context, *request, response,
        [this](const v1::ListAdaptersRequest&, AdapterRegistry& adapters) -> absl::StatusOr<v1::ListAdaptersResponse> {
          NIBBLE_ASSIGN_OR_RETURN(const std::vector<AdapterInfo> infos, adapters.List());
          v1::ListAdaptersResponse listed;
          for (const AdapterInfo& info : infos) *listed.add_adapters() = ToMessage(info, serving_->clock());
          return listed;
        });
  }

  // `act`: (const Request&, AdapterRegistry&) -> absl::StatusOr<message>.
  template <typename Request, typename Act>
  ServerUnaryReactor* Answer(const Caller& caller, CallbackServerContext* context, const ByteBuffer& request,
                             ByteBuffer* response, Act act) {
    AdapterRegistry* const adapters = serving_->model->adapters.get();
    if (adapters == nullptr) {
      ServerUnaryReactor* const reactor = context->DefaultReactor();
      reactor->Finish(ToGrpcStatus(absl::FailedPreconditionError("the daemon serves no adapters")));
      return reactor;
    }
    return AnswerOn<Request>(
        serving_->adapter_loads, caller.tenant, serving_, context, request, response,
        [adapters, act = std::move(act)](const Request& message) { return act(message, *adapters); });
  }

  Serving* const serving_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAdaptersService(Serving* serving) {
  return std::make_unique<AdaptersService>(serving);
}

}  // namespace nibble::server
