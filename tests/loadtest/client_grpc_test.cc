// The whole path from schedule to summary, against a server that answers by script.
#include "loadtest/client_grpc.h"

#include <atomic>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "loadtest/runner.h"
#include "loadtest/stats.h"
#include "nibble/v1/inference.grpc.pb.h"
#include "tests/base/status_matchers.h"

namespace nibble::loadtest {
namespace {

using testing::HasSubstr;

// Sends max_tokens tokens, two to a chunk; refuses prompts whose first id is 99.
class ScriptedServer : public v1::Inference::Service {
 public:
  ScriptedServer() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~ScriptedServer() override { server_->Shutdown(); }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  int most_at_once() const { return most_; }
  // Of the last request, once it has ended.
  const std::string& adapter() const { return adapter_; }
  const std::string& authorization() const { return authorization_; }

  grpc::Status GetModel(grpc::ServerContext* context, const v1::GetModelRequest* request, v1::Model* model) override {
    authorization_ = AuthorizationOf(*context);
    if (request->name() == "absent") return {grpc::StatusCode::NOT_FOUND, "no model 'absent'"};
    model->set_name("scripted");
    model->set_vocab_size(1000);
    return grpc::Status::OK;
  }

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    adapter_ = request->adapter();
    authorization_ = AuthorizationOf(*context);
    if (request->token_ids().ids(0) == 99) return {grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full"};
    const int now = ++now_;
    for (int most = most_; now > most && !most_.compare_exchange_weak(most, now);) {
    }
    const grpc::Status status = Answer(context, *request, writer);
    --now_;
    return status;
  }

 private:
  static std::string AuthorizationOf(const grpc::ServerContext& context) {
    const auto key = context.client_metadata().find("authorization");
    return key == context.client_metadata().end() ? "" : std::string(key->second.data(), key->second.size());
  }
  static grpc::Status Answer(grpc::ServerContext* context, const v1::GenerateRequest& request,
                             grpc::ServerWriter<v1::GenerateResponse>* writer) {
    EXPECT_EQ(request.sampling().temperature(), 0);
    EXPECT_TRUE(request.stopping().ignore_eos());
    v1::GenerateResponse response;
    response.mutable_started()->set_prompt_tokens(request.token_ids().ids_size());
    writer->Write(response);
    for (int64_t sent = 0; sent < request.stopping().max_tokens(); sent += 2) {
      if (context->IsCancelled()) return grpc::Status::CANCELLED;
      response.mutable_chunk()->mutable_token_ids()->Resize(2, 5);
      writer->Write(response);
      response.Clear();
    }
    response.mutable_finished()->set_reason(v1::FINISH_REASON_LENGTH);
    response.mutable_finished()->mutable_usage()->set_queue_seconds(0.25);
    writer->Write(response);
    return grpc::Status::OK;
  }

  int port_ = 0;
  std::string adapter_;
  std::string authorization_;
  std::atomic<int> now_{0};
  std::atomic<int> most_{0};
  std::unique_ptr<grpc::Server> server_;
};

Measurement SendTo(const ScriptedServer& server, const std::vector<Request>& requests, int64_t concurrency) {
  const std::unique_ptr<Client> client = MakeGrpcClient(server.address(), "", concurrency);
  return SendAll(*client, requests, {.arrivals = {}, .max_concurrency = concurrency},
                 [](int64_t, const Record&) { return true; });
}

TEST(GrpcClient, DescribesTheModelServed) {
  ScriptedServer server;
  const auto model = MakeGrpcClient(server.address(), "", 1)->Describe("");
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->name, "scripted");
  EXPECT_EQ(model->vocab_size, 1000);
  EXPECT_THAT(MakeGrpcClient(server.address(), "absent", 1)->Describe(""),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("absent")));
}

TEST(GrpcClient, CountsTokensOfEveryAnswer) {
  ScriptedServer server;
  const std::vector<Request> requests(40, Request{{1, 2, 3}, 8, -1});
  const Measurement run = SendTo(server, requests, 4);
  const Summary summary = Summarize(run, {});
  EXPECT_EQ(summary.completed, 40);
  EXPECT_EQ(summary.input_tokens, 120);
  EXPECT_EQ(summary.output_tokens, 320);
  for (const Record& record : run.records) {
    EXPECT_EQ(record.chunks.size(), 4u);
    EXPECT_EQ(record.queue_ms, 250);
    EXPECT_LE(record.scheduled, record.sent);
    EXPECT_LE(record.sent, record.chunks.front());
  }
}

TEST(GrpcClient, SendsTheAdapterAndTheKey) {
  ScriptedServer server;
  EXPECT_THAT(MakeGrpcClient(server.address(), "", 1)->Describe("first"), IsOk());
  EXPECT_EQ(server.authorization(), "Bearer first");
  Request request{{1}, 2, -1};
  request.adapter = "a";
  request.tenant = "t";
  request.key = "secret";
  const Measurement run = SendTo(server, {request}, 1);
  EXPECT_EQ(server.adapter(), "a");
  EXPECT_EQ(server.authorization(), "Bearer secret");
  EXPECT_EQ(run.records[0].adapter, "a");
  EXPECT_EQ(run.records[0].tenant, "t");
}

TEST(GrpcClient, AStalledReaderReadsOnLater) {
  ScriptedServer server;
  Request request{{1}, 8, -1};
  request.stall_after = 4;
  request.stall_time = std::chrono::milliseconds(50);
  const Record record = SendTo(server, {request}, 1).records[0];
  EXPECT_EQ(record.outcome, Outcome::kStalled);
  ASSERT_EQ(record.output_tokens, 8);
  EXPECT_GE(record.chunks[2] - record.chunks[1], std::chrono::milliseconds(50));
}

TEST(GrpcClient, NeverMoreInFlightThanAsked) {
  ScriptedServer server;
  const Measurement run = SendTo(server, std::vector<Request>(60, Request{{1}, 20, -1}), 3);
  EXPECT_LE(run.peak_concurrency, 3);
  EXPECT_LE(server.most_at_once(), 3);
}

TEST(GrpcClient, CancelsAfterTheTokensAsked) {
  ScriptedServer server;
  const Measurement run = SendTo(server, {Request{{1}, 1'000'000, 6}, Request{{1}, 4, -1}}, 2);
  EXPECT_EQ(run.records[0].outcome, Outcome::kCancelled);
  EXPECT_GE(run.records[0].output_tokens, 6);
  EXPECT_EQ(run.records[1].outcome, Outcome::kCompleted);
}

TEST(GrpcClient, AnAnswerThatTakesTooLongIsAFailure) {
  ScriptedServer server;
  const Measurement run = SendTo(server, {Request{{1}, 1'000'000'000, -1, std::chrono::milliseconds(50)}}, 1);
  EXPECT_EQ(run.records[0].outcome, Outcome::kFailed);
  EXPECT_THAT(run.records[0].error, HasSubstr("DEADLINE_EXCEEDED"));
}

TEST(GrpcClient, ARefusalFailsThatRequestAlone) {
  ScriptedServer server;
  const Measurement run = SendTo(server, {Request{{99}, 4, -1}, Request{{1}, 4, -1}}, 1);
  EXPECT_EQ(run.records[0].outcome, Outcome::kFailed);
  EXPECT_THAT(run.records[0].error, HasSubstr("the queue is full"));
  EXPECT_EQ(run.records[1].outcome, Outcome::kCompleted);
}

TEST(GrpcClient, ScheduledTimesFollowTheArrivals) {
  ScriptedServer server;
  const std::unique_ptr<Client> client = MakeGrpcClient(server.address(), "", 2);
  const std::vector<Request> requests(3, Request{{1}, 2, -1});
  const Measurement run = SendAll(*client, requests, {.arrivals = {0, 0.01, 0.03}, .max_concurrency = 2},
                                  [](int64_t, const Record&) { return true; });
  EXPECT_EQ(run.records[1].scheduled - run.records[0].scheduled, std::chrono::milliseconds(10));
  EXPECT_EQ(run.records[2].scheduled - run.records[0].scheduled, std::chrono::milliseconds(30));
  for (const Record& record : run.records) EXPECT_GE(record.sent, record.scheduled);
}

}  // namespace
}  // namespace nibble::loadtest
