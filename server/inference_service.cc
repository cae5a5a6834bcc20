#include "server/inference_service.h"

#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvcache/base/status_macros.h"
#include "nibble/v1/inference.grpc.pb.h"
#include "server/generate_stream.h"
#include "server/translate.h"
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
  NibbleWire(const ServedModel* model, const Limits& limits) : model_(model), limits_(limits) {}

  absl::StatusOr<AdmittedRequest> Admit(const ByteBuffer& request) const override {
    v1::GenerateRequest message;
    NIBBLE_RETURN_IF_ERROR(ParseMessage(request, &message));
    return AdmitGenerate(message, *model_, limits_);
  }
  ByteBuffer Encode(const StreamEvent& event) const override { return SerializeMessage(ToMessage(event)); }

 private:
  const ServedModel* const model_;
  const Limits limits_;
};

class InferenceService final : public RawService {
 public:
  explicit InferenceService(Serving* serving) : serving_(serving), wire_(serving->model, serving->limits) {}

  ServerWriteReactor<ByteBuffer>* Generate(CallbackServerContext* context, const ByteBuffer* request) override {
    return GenerateStream::Start(serving_, &wire_, context, *request);
  }

  ServerUnaryReactor* Tokenize(CallbackServerContext* context, const ByteBuffer* request,
                               ByteBuffer* response) override {
    return AnswerLater<v1::TokenizeRequest>(context, *request, response, [this](const v1::TokenizeRequest& message) {
      return server::Tokenize(message, *serving_->model, serving_->limits);
    });
  }
  ServerUnaryReactor* Detokenize(CallbackServerContext* context, const ByteBuffer* request,
                                 ByteBuffer* response) override {
    return AnswerLater<v1::DetokenizeRequest>(
        context, *request, response,
        [this](const v1::DetokenizeRequest& message) { return server::Detokenize(message, *serving_->model); });
  }
  ServerUnaryReactor* GetModel(CallbackServerContext* context, const ByteBuffer* request,
                               ByteBuffer* response) override {
    return AnswerLater<v1::GetModelRequest>(context, *request, response, [this](const v1::GetModelRequest& message) {
      return server::GetModel(message, *serving_->model, serving_->draining);
    });
  }
  ServerUnaryReactor* ListModels(CallbackServerContext* context, const ByteBuffer* request,
                                 ByteBuffer* response) override {
    return AnswerLater<v1::ListModelsRequest>(context, *request, response, [this](const v1::ListModelsRequest&) {
      return absl::StatusOr<v1::ListModelsResponse>(server::ListModels(*serving_->model, serving_->draining));
    });
  }

 private:
  // Parses, answers and finishes on an intake thread. `answer`: const Request& -> absl::StatusOr<message>.
  template <typename Request, typename Answer>
  ServerUnaryReactor* AnswerLater(CallbackServerContext* context, const ByteBuffer& request, ByteBuffer* response,
                                  Answer answer) {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    auto claim = std::make_shared<MemoryBudget::Claim>();
    const auto work = [reactor, request, response, claim, answer = std::move(answer)] {
      Request message;
      absl::Status status = ParseMessage(request, &message);
      if (status.ok()) {
        auto result = answer(message);
        status = result.status();
        if (status.ok()) *response = SerializeMessage(*result);
      }
      *claim = {};  // before the client can know: it may use the room at once
      reactor->Finish(ToGrpcStatus(status));
    };
    const auto bytes = static_cast<int64_t>(request.Length());
    if (!serving_->intake_budget->TryClaim(bytes, claim.get()) || !serving_->intake->TryPush(work)) {
      context->AddTrailingMetadata("grpc-retry-pushback-ms", absl::StrCat(serving_->retry_after / 1'000'000));
      reactor->Finish(ToGrpcStatus(absl::ResourceExhaustedError("queue full: too many requests await an answer")));
    }
    return reactor;
  }

  Serving* const serving_;
  const NibbleWire wire_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeInferenceService(Serving* serving) {
  return std::make_unique<InferenceService>(serving);
}

}  // namespace nibble::server
