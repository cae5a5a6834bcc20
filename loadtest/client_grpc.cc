#include "loadtest/client_grpc.h"

#include <atomic>
#include <chrono>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpcpp/alarm.h"
#include "grpcpp/grpcpp.h"
#include "nibble/v1/inference.grpc.pb.h"

namespace nibble::loadtest {
namespace {

// Servers cap the streams of one connection (100 is usual); a share below that leaves no request waiting in the client.
constexpr int64_t kStreamsPerConnection = 64;

v1::GenerateRequest ToProto(const Request& request, const std::string& model) {
  v1::GenerateRequest proto;
  proto.set_model(model);
  proto.set_adapter(request.adapter);
  proto.mutable_token_ids()->mutable_ids()->Add(request.prompt.begin(), request.prompt.end());
  proto.mutable_sampling()->set_temperature(0);
  proto.mutable_stopping()->set_max_tokens(request.output_tokens);
  proto.mutable_stopping()->set_ignore_eos(true);
  return proto;
}

// One request in flight. Owns itself, until its status has come.
class Call : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  Call(v1::Inference::Stub* stub, const Request& request, const std::string& model, Record* record,
       std::function<void()> done)
      : request_(request), proto_(ToProto(request, model)), record_(record), done_(std::move(done)) {
    if (!request.key.empty()) context_.AddMetadata("authorization", absl::StrCat("Bearer ", request.key));
    record_->sent = Clock::now();
    context_.set_deadline(std::chrono::system_clock::now() + request.timeout);
    stub->async()->Generate(&context_, &proto_, this);
    StartRead(&response_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (response_.has_started()) record_->prompt_tokens = response_.started().prompt_tokens();
    if (response_.has_chunk() && response_.chunk().token_ids_size() > 0) OnTokens(response_.chunk().token_ids_size());
    if (response_.has_finished()) OnFinished(response_.finished());
    if (request_.cancel_after >= 0 && record_->output_tokens >= request_.cancel_after) context_.TryCancel();
    if (request_.stall_after >= 0 && record_->output_tokens >= request_.stall_after && !stalled_) {
      Stall();
    } else {
      StartRead(&response_);
    }
  }

  void OnDone(const grpc::Status& status) override {
    if (stalled_) {
      record_->outcome = Outcome::kStalled;
    } else if (status.ok() && reason_ == v1::FINISH_REASON_LENGTH) {
      record_->outcome = Outcome::kCompleted;
    } else if (status.ok()) {
      record_->status = v1::FinishReason_Name(reason_);
      record_->error = absl::StrCat("the answer ended with ", record_->status);
    } else if (request_.cancel_after >= 0 && status.error_code() == grpc::StatusCode::CANCELLED) {
      record_->outcome = Outcome::kCancelled;
    } else {
      // Abseil's codes are gRPC's.
      record_->status = absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code()));
      record_->error = absl::StrCat(record_->status, ": ", status.error_message());
    }
    const std::function<void()> done = std::move(done_);
    delete this;
    done();
  }

 private:
  void OnTokens(int64_t count) {
    record_->chunks.push_back(Clock::now());
    record_->output_tokens += count;
  }

  void OnFinished(const v1::Finished& finished) {
    reason_ = finished.reason();
    if (finished.has_usage()) record_->queue_ms = 1000 * finished.usage().queue_seconds();
  }

  // The hold keeps the call alive until the alarm has rung, even where the server ends it before.
  void Stall() {
    stalled_ = true;
    AddHold();
    alarm_.Set(std::chrono::system_clock::now() + request_.stall_time, [this](bool) {
      StartRead(&response_);
      RemoveHold();
    });
  }

  const Request& request_;
  const v1::GenerateRequest proto_;
  Record* const record_;
  std::function<void()> done_;
  grpc::ClientContext context_;
  v1::GenerateResponse response_;
  grpc::Alarm alarm_;
  bool stalled_ = false;
  v1::FinishReason reason_ = v1::FINISH_REASON_UNSPECIFIED;
};

class GrpcClient : public Client {
 public:
  GrpcClient(const std::string& address, std::string model, int64_t connections) : model_(std::move(model)) {
    grpc::ChannelArguments arguments;
    // Without it channels to one address would share one connection.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    for (int64_t i = 0; i < connections; ++i) {
      stubs_.push_back(
          v1::Inference::NewStub(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments)));
    }
  }

  absl::StatusOr<ModelInfo> Describe() override {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    v1::GetModelRequest request;
    request.set_name(model_);
    v1::Model model;
    const grpc::Status status = stubs_[0]->GetModel(&context, request, &model);
    if (!status.ok()) return absl::UnavailableError(absl::StrCat("GetModel: ", status.error_message()));
    return ModelInfo{model.name(), model.vocab_size()};
  }

  int64_t threads() const override { return std::numeric_limits<int64_t>::max(); }

  void Start(const Request& request, Record* record, std::function<void()> done) override {
    v1::Inference::Stub* stub = stubs_[next_.fetch_add(1) % stubs_.size()].get();
    new Call(stub, request, model_, record, std::move(done));
  }

 private:
  const std::string model_;
  std::vector<std::unique_ptr<v1::Inference::Stub>> stubs_;
  std::atomic<uint64_t> next_{0};
};

}  // namespace

std::unique_ptr<Client> MakeGrpcClient(const std::string& address, const std::string& model, int64_t concurrency) {
  const int64_t connections = (concurrency + kStreamsPerConnection - 1) / kStreamsPerConnection;
  return std::make_unique<GrpcClient>(address, model, connections);
}

}  // namespace nibble::loadtest
