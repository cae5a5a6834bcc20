#include "server/inference_service.h"

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "kvcache/base/status_macros.h"
#include "nibble/v1/inference.grpc.pb.h"
#include "server/gated_service.h"
#include "server/streaming_call.h"
#include "server/translate.h"
#include "server/unary_call.h"
#include "server/wire.h"

namespace nibble::server {
namespace {

using grpc::ByteBuffer;
using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;
using grpc::ServerWriteReactor;

class NibbleWire final : public GenerateWire {
 public:
  explicit NibbleWire(const Serving& serving) : serving_(serving) {}

  absl::StatusOr<AdmittedRequest> Admit(const ByteBuffer& request, const Caller& caller) override {
    v1::GenerateRequest message;
    NIBBLE_RETURN_IF_ERROR(ParseMessage(request, &message));
    return AdmitGenerate(message, caller, *serving_.model, serving_.limits);
  }
  std::optional<ByteBuffer> Encode(const StreamEvent& event) override { return SerializeMessage(ToMessage(event)); }

 private:
  const Serving& serving_;
};

class InferenceService final : public GatedService {
 public:
  explicit InferenceService(Serving* serving)
      : GatedService(serving->gate, v1::Inference::service_full_name()), serving_(serving) {
    AddStreaming("Generate", std::bind_front(&InferenceService::Generate, this));
    AddUnary("Tokenize", std::bind_front(&InferenceService::Tokenize, this));
    AddUnary("Detokenize", std::bind_front(&InferenceService::Detokenize, this));
    AddUnary("GetModel", std::bind_front(&InferenceService::GetModel, this));
    AddUnary("ListModels", std::bind_front(&InferenceService::ListModels, this));
  }

 private:
  ServerWriteReactor<ByteBuffer>* Generate(const Caller& caller, CallbackServerContext* context,
                                           const ByteBuffer* request) {
    return StartStreamingCall(serving_, std::make_unique<NibbleWire>(*serving_), caller, context, *request);
  }

  ServerUnaryReactor* Tokenize(const Caller&, CallbackServerContext* context, const ByteBuffer* request,
                               ByteBuffer* response) {
    return Later<v1::TokenizeRequest>(context, *request, response, [this](const v1::TokenizeRequest& message) {
      return server::Tokenize(message, *serving_->model, serving_->limits);
    });
  }
  ServerUnaryReactor* Detokenize(const Caller&, CallbackServerContext* context, const ByteBuffer* request,
                                 ByteBuffer* response) {
    return Later<v1::DetokenizeRequest>(context, *request, response, [this](const v1::DetokenizeRequest& message) {
      return server::Detokenize(message, *serving_->model);
    });
  }
  ServerUnaryReactor* GetModel(const Caller&, CallbackServerContext* context, const ByteBuffer* request,
                               ByteBuffer* response) {
    return Later<v1::GetModelRequest>(context, *request, response, [this](const v1::GetModelRequest& message) {
      return server::GetModel(message, *serving_->model, serving_->draining);
    });
  }
  ServerUnaryReactor* ListModels(const Caller&, CallbackServerContext* context, const ByteBuffer* request,
                                 ByteBuffer* response) {
    return Later<v1::ListModelsRequest>(context, *request, response, [this](const v1::ListModelsRequest&) {
      return absl::StatusOr<v1::ListModelsResponse>(server::ListModels(*serving_->model, serving_->draining));
    });
  }

  template <typename Request, typename Answer>
  ServerUnaryReactor* Later(CallbackServerContext* context, const ByteBuffer& request, ByteBuffer* response,
                            Answer answer) {
    return AnswerLater<Request>(serving_, context, request, response, std::move(answer));
  }

  Serving* const serving_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeInferenceService(Serving* serving) {
  return std::make_unique<InferenceService>(serving);
}

}  // namespace nibble::server
