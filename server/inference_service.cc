#include "server/inference_service.h"

#include <memory>
#include <optional>
#include <utility>

#include "kvcache/base/status_macros.h"
#include "nibble/v1/inference.grpc.pb.h"
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

// Every method raw: see wire.h.
using RawService = v1::Inference::WithRawCallbackMethod_Generate<v1::Inference::WithRawCallbackMethod_Tokenize<
    v1::Inference::WithRawCallbackMethod_Detokenize<v1::Inference::WithRawCallbackMethod_GetModel<
        v1::Inference::WithRawCallbackMethod_ListModels<v1::Inference::Service>>>>>;

class NibbleWire final : public GenerateWire {
 public:
  explicit NibbleWire(const Serving& serving) : serving_(serving) {}

  absl::StatusOr<AdmittedRequest> Admit(const ByteBuffer& request) override {
    v1::GenerateRequest message;
    NIBBLE_RETURN_IF_ERROR(ParseMessage(request, &message));
    return AdmitGenerate(message, *serving_.model, serving_.limits);
  }
  std::optional<ByteBuffer> Encode(const StreamEvent& event) override { return SerializeMessage(ToMessage(event)); }

 private:
  const Serving& serving_;
};

class InferenceService final : public RawService {
 public:
  explicit InferenceService(Serving* serving) : serving_(serving) {}

  ServerWriteReactor<ByteBuffer>* Generate(CallbackServerContext* context, const ByteBuffer* request) override {
    return StartStreamingCall(serving_, std::make_unique<NibbleWire>(*serving_), context, *request);
  }

  ServerUnaryReactor* Tokenize(CallbackServerContext* context, const ByteBuffer* request,
                               ByteBuffer* response) override {
    return Later<v1::TokenizeRequest>(context, *request, response, [this](const v1::TokenizeRequest& message) {
      return server::Tokenize(message, *serving_->model, serving_->limits);
    });
  }
  ServerUnaryReactor* Detokenize(CallbackServerContext* context, const ByteBuffer* request,
                                 ByteBuffer* response) override {
    return Later<v1::DetokenizeRequest>(context, *request, response, [this](const v1::DetokenizeRequest& message) {
      return server::Detokenize(message, *serving_->model);
    });
  }
  ServerUnaryReactor* GetModel(CallbackServerContext* context, const ByteBuffer* request,
                               ByteBuffer* response) override {
    return Later<v1::GetModelRequest>(context, *request, response, [this](const v1::GetModelRequest& message) {
      return server::GetModel(message, *serving_->model, serving_->draining);
    });
  }
  ServerUnaryReactor* ListModels(CallbackServerContext* context, const ByteBuffer* request,
                                 ByteBuffer* response) override {
    return Later<v1::ListModelsRequest>(context, *request, response, [this](const v1::ListModelsRequest&) {
      return absl::StatusOr<v1::ListModelsResponse>(server::ListModels(*serving_->model, serving_->draining));
    });
  }

 private:
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
