#include "loadtest/client_vllm.h"

#include <atomic>
#include <random>

#include "loadtest/streaming_client.h"
#include "vllm/engine.grpc.pb.h"

namespace nibble::loadtest {
namespace {

namespace pb = vllm::grpc::engine;

// The contract wants ids that no other request has, of any client.
std::string NewRequestId() {
  static const uint32_t run = std::random_device()();
  static std::atomic<uint64_t> next{0};
  return absl::StrCat("loadtest-", run, "-", next.fetch_add(1));
}

struct VllmDialect {
  using Service = pb::VllmEngine;
  using Request = pb::GenerateRequest;
  using Response = pb::GenerateResponse;

  static Request ToProto(const loadtest::Request& request, const std::string&) {
    Request proto;
    proto.set_request_id(NewRequestId());
    proto.mutable_tokenized()->mutable_input_ids()->Add(request.prompt.begin(), request.prompt.end());
    proto.mutable_sampling_params()->set_temperature(0);
    proto.mutable_sampling_params()->set_max_tokens(static_cast<uint32_t>(request.output_tokens));
    proto.mutable_sampling_params()->set_ignore_eos(true);
    proto.set_stream(true);
    return proto;
  }

  static int64_t Read(const Response& response, Record* record, std::string* reason) {
    if (response.has_complete()) {
      record->prompt_tokens = response.complete().prompt_tokens();
      *reason = response.complete().finish_reason();
    }
    return response.chunk().token_ids_size();
  }

  static bool Whole(const std::string& reason) { return reason == "length"; }

  static absl::StatusOr<ModelInfo> Describe(Service::Stub& stub, grpc::ClientContext& context,
                                            const std::string& name) {
    pb::GetModelInfoResponse info;
    const grpc::Status status = stub.GetModelInfo(&context, pb::GetModelInfoRequest(), &info);
    if (!status.ok()) return absl::UnavailableError(absl::StrCat("GetModelInfo: ", status.error_message()));
    if (!name.empty() && name != info.served_model_name()) {
      return absl::UnavailableError(absl::StrCat("--model: the server has '", info.served_model_name(), "'"));
    }
    return ModelInfo{info.served_model_name(), info.vocab_size()};
  }
};

}  // namespace

std::unique_ptr<Client> MakeVllmClient(const std::string& address, const std::string& model, int64_t concurrency,
                                       const Tls& tls) {
  return std::make_unique<StreamingClient<VllmDialect>>(address, model, concurrency, tls);
}

}  // namespace nibble::loadtest
