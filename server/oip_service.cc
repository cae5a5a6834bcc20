#include "server/oip_service.h"

#include <functional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "kserve/inference.grpc.pb.h"
#include "kvcache/base/status_macros.h"
#include "server/gated_service.h"
#include "server/oip_stream.h"
#include "server/oip_wire.h"
#include "server/streaming_call.h"
#include "server/unary_call.h"

namespace nibble::server {
namespace {

namespace pb = inference;
using grpc::ByteBuffer;
using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;
using Base = pb::GRPCInferenceService;

absl::Status CheckModel(const std::string& name, const ServedModel& model) {
  return name == model.name ? absl::OkStatus() : absl::NotFoundError("name: no such model");
}

void AddTensor(const char* name, const char* datatype,
               google::protobuf::RepeatedPtrField<pb::ModelMetadataResponse::TensorMetadata>* tensors) {
  auto* tensor = tensors->Add();
  tensor->set_name(name);
  tensor->set_datatype(datatype);
  tensor->add_shape(1);
}

pb::ModelMetadataResponse Metadata(const ServedModel& model) {
  pb::ModelMetadataResponse metadata;
  metadata.set_name(model.name);
  metadata.add_versions("1");
  metadata.set_platform("nibbled");
  for (const char* name : {"text_input", "sampling_parameters"}) {
    AddTensor(name, "BYTES", metadata.mutable_inputs());
  }
  for (const char* name : {"stream", "exclude_input_in_output", "return_finish_reason", "return_num_input_tokens",
                           "return_num_output_tokens"}) {
    AddTensor(name, "BOOL", metadata.mutable_inputs());
  }
  for (const char* name : {"text_output", "finish_reason"}) AddTensor(name, "BYTES", metadata.mutable_outputs());
  for (const char* name : {"num_input_tokens", "num_output_tokens"}) {
    AddTensor(name, "UINT32", metadata.mutable_outputs());
  }
  return metadata;
}

}  // namespace

class OipService::Impl final : public GatedService {
 public:
  explicit Impl(Serving* serving) : GatedService(serving->gate, Base::service_full_name()), serving_(serving) {
    AddStreaming("ModelInfer", std::bind_front(&Impl::ModelInfer, this));
    AddBidi("ModelStreamInfer", std::bind_front(&Impl::ModelStreamInfer, this));
    AddUnary("ServerLive", std::bind_front(&Impl::ServerLive, this));
    AddUnary("ServerReady", std::bind_front(&Impl::ServerReady, this));
    AddUnary("ServerMetadata", std::bind_front(&Impl::ServerMetadata, this));
    AddUnary("ModelReady", std::bind_front(&Impl::ModelReady, this));
    AddUnary("ModelMetadata", std::bind_front(&Impl::ModelMetadata, this));
    AddUnary("ModelConfig", std::bind_front(&Impl::ModelConfig, this));
    AddUnary("ModelStatistics", std::bind_front(&Impl::ModelStatistics, this));
  }

  void BeginDrain() {
    std::vector<std::shared_ptr<OipStream>> streams;
    {
      absl::MutexLock lock(&mu_);
      draining_ = true;
      for (const auto& [key, stream] : streams_) streams.push_back(stream);
    }
    for (const auto& stream : streams) stream->BeginDrain();
  }

 private:
  // A unary method; taken as a stream of one message, it is one more GenerateStream.
  grpc::ServerWriteReactor<ByteBuffer>* ModelInfer(const Caller& caller, CallbackServerContext* context,
                                                   const ByteBuffer* request) {
    return StartStreamingCall(serving_, std::make_unique<OipWire>(*serving_, OipWire::Call::kInfer), caller, context,
                              *request);
  }

  grpc::ServerBidiReactor<ByteBuffer, ByteBuffer>* ModelStreamInfer(const Caller& caller,
                                                                    CallbackServerContext* context) {
    const auto stream = std::make_shared<OipStream>(serving_, caller, context, [this](OipStream* done) {
      absl::MutexLock lock(&mu_);
      streams_.erase(done);
    });
    bool draining = false;
    {
      absl::MutexLock lock(&mu_);
      streams_.emplace(stream.get(), stream);
      draining = draining_;
    }
    stream->Begin();
    if (draining) stream->BeginDrain();
    return stream.get();
  }

  ServerUnaryReactor* ServerLive(const Caller&, CallbackServerContext* context, const ByteBuffer* request,
                                 ByteBuffer* response) {
    return AnswerNow<pb::ServerLiveRequest>(context, *request, response, [](const pb::ServerLiveRequest&) {
      pb::ServerLiveResponse live;
      live.set_live(true);
      return absl::StatusOr<pb::ServerLiveResponse>(live);
    });
  }

  ServerUnaryReactor* ServerReady(const Caller&, CallbackServerContext* context, const ByteBuffer* request,
                                  ByteBuffer* response) {
    return AnswerNow<pb::ServerReadyRequest>(context, *request, response, [this](const pb::ServerReadyRequest&) {
      pb::ServerReadyResponse ready;
      ready.set_ready(!serving_->draining);
      return absl::StatusOr<pb::ServerReadyResponse>(ready);
    });
  }

  ServerUnaryReactor* ModelReady(const Caller&, CallbackServerContext* context, const ByteBuffer* request,
                                 ByteBuffer* response) {
    return AnswerNow<pb::ModelReadyRequest>(context, *request, response, [this](const pb::ModelReadyRequest& message) {
      pb::ModelReadyResponse ready;
      ready.set_ready(message.name() == serving_->model->name && !serving_->draining);
      return absl::StatusOr<pb::ModelReadyResponse>(ready);
    });
  }

  ServerUnaryReactor* ServerMetadata(const Caller&, CallbackServerContext* context, const ByteBuffer* request,
                                     ByteBuffer* response) {
    return AnswerNow<pb::ServerMetadataRequest>(context, *request, response, [](const pb::ServerMetadataRequest&) {
      pb::ServerMetadataResponse metadata;
      metadata.set_name("nibbled");
      metadata.add_extensions("model_stream_infer");
      return absl::StatusOr<pb::ServerMetadataResponse>(metadata);
    });
  }

  ServerUnaryReactor* ModelMetadata(const Caller&, CallbackServerContext* context, const ByteBuffer* request,
                                    ByteBuffer* response) {
    return AnswerNow<pb::ModelMetadataRequest>(
        context, *request, response,
        [this](const pb::ModelMetadataRequest& message) -> absl::StatusOr<pb::ModelMetadataResponse> {
          NIBBLE_RETURN_IF_ERROR(CheckModel(message.name(), *serving_->model));
          return Metadata(*serving_->model);
        });
  }

  ServerUnaryReactor* ModelConfig(const Caller&, CallbackServerContext* context, const ByteBuffer* request,
                                  ByteBuffer* response) {
    return AnswerNow<pb::ModelConfigRequest>(
        context, *request, response,
        [this](const pb::ModelConfigRequest& message) -> absl::StatusOr<pb::ModelConfigResponse> {
          NIBBLE_RETURN_IF_ERROR(CheckModel(message.name(), *serving_->model));
          pb::ModelConfigResponse response;
          response.mutable_config()->set_name(serving_->model->name);
          response.mutable_config()->set_backend("nibbled");
          response.mutable_config()->mutable_model_transaction_policy()->set_decoupled(true);
          return response;
        });
  }

  ServerUnaryReactor* ModelStatistics(const Caller&, CallbackServerContext* context, const ByteBuffer* request,
                                      ByteBuffer* response) {
    return AnswerNow<pb::ModelStatisticsRequest>(
        context, *request, response,
        [this](const pb::ModelStatisticsRequest& message) -> absl::StatusOr<pb::ModelStatisticsResponse> {
          if (!message.name().empty()) NIBBLE_RETURN_IF_ERROR(CheckModel(message.name(), *serving_->model));
          const sched::Counters counters = serving_->loop->Snapshot();
          const auto finished = [&counters](sched::FinishReason reason) {
            return counters.finished[static_cast<size_t>(reason)];
          };
          pb::ModelStatisticsResponse response;
          pb::ModelStatistics* statistics = response.add_model_stats();
          statistics->set_name(serving_->model->name);
          statistics->set_version("1");
          statistics->set_inference_count(
              static_cast<uint64_t>(finished(sched::FinishReason::kStop) + finished(sched::FinishReason::kLength)));
          statistics->set_execution_count(static_cast<uint64_t>(counters.steps));
          return response;
        });
  }

  Serving* const serving_;
  absl::Mutex mu_;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  absl::flat_hash_map<OipStream*, std::shared_ptr<OipStream>> streams_ ABSL_GUARDED_BY(mu_);
};

OipService::OipService(Serving* serving) : impl_(std::make_unique<Impl>(serving)) {}
OipService::~OipService() = default;
grpc::Service* OipService::service() { return impl_.get(); }
void OipService::BeginDrain() { impl_->BeginDrain(); }

}  // namespace nibble::server
