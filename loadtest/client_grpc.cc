#include "loadtest/client_grpc.h"

#include "loadtest/streaming_client.h"
#include "nibble/v1/inference.grpc.pb.h"

namespace nibble::loadtest {
namespace {

struct NibbleDialect {
  using Service = v1::Inference;
  using Request = v1::GenerateRequest;
  using Response = v1::GenerateResponse;

  static Request ToProto(const loadtest::Request& request, const std::string& model) {
    Request proto;
    proto.set_model(model);
    proto.set_adapter(request.adapter);
    proto.mutable_token_ids()->mutable_ids()->Add(request.prompt.begin(), request.prompt.end());
    proto.mutable_sampling()->set_temperature(0);
    proto.mutable_stopping()->set_max_tokens(request.output_tokens);
    proto.mutable_stopping()->set_ignore_eos(true);
    return proto;
  }

  static int64_t Read(const Response& response, Record* record, std::string* reason) {
    if (response.has_started()) record->prompt_tokens = response.started().prompt_tokens();
    if (response.has_finished()) {
      const v1::Finished& finished = response.finished();
      *reason = v1::FinishReason_Name(finished.reason());
      if (finished.has_usage()) record->queue_ms = 1000 * finished.usage().queue_seconds();
    }
    return response.chunk().token_ids_size();
  }

  static bool Whole(const std::string& reason) { return reason == v1::FinishReason_Name(v1::FINISH_REASON_LENGTH); }

  static absl::StatusOr<ModelInfo> Describe(Service::Stub& stub, grpc::ClientContext& context,
                                            const std::string& name) {
    v1::GetModelRequest request;
    request.set_name(name);
    v1::Model model;
    const grpc::Status status = stub.GetModel(&context, request, &model);
    if (!status.ok()) return absl::UnavailableError(absl::StrCat("GetModel: ", status.error_message()));
    return ModelInfo{model.name(), model.vocab_size()};
  }
};

}  // namespace

std::unique_ptr<Client> MakeGrpcClient(const std::string& address, const std::string& model, int64_t concurrency,
                                       const Tls& tls) {
  return std::make_unique<StreamingClient<NibbleDialect>>(address, model, concurrency, tls);
}

}  // namespace nibble::loadtest
