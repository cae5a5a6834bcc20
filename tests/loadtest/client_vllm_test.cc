// VllmEngine against a server that answers by script.
#include "loadtest/client_vllm.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "loadtest/runner.h"
#include "loadtest/stats.h"
#include "tests/base/status_matchers.h"
#include "vllm/engine.grpc.pb.h"

namespace nibble::loadtest {
namespace {

namespace pb = vllm::grpc::engine;
using testing::HasSubstr;

// Sends max_tokens tokens, two to a chunk; answers to prompts whose first id is 98 stop early.
class ScriptedWorker : public pb::VllmEngine::Service {
 public:
  ScriptedWorker() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~ScriptedWorker() override { server_->Shutdown(); }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  size_t distinct_ids() {
    absl::MutexLock lock(&mu_);
    return ids_.size();
  }

  grpc::Status GetModelInfo(grpc::ServerContext*, const pb::GetModelInfoRequest*,
                            pb::GetModelInfoResponse* info) override {
    info->set_served_model_name("scripted");
    info->set_vocab_size(1000);
    return grpc::Status::OK;
  }

  grpc::Status Generate(grpc::ServerContext*, const pb::GenerateRequest* request,
                        grpc::ServerWriter<pb::GenerateResponse>* writer) override {
    {
      absl::MutexLock lock(&mu_);
      ids_.insert(request->request_id());
    }
    EXPECT_TRUE(request->stream());
    EXPECT_TRUE(request->sampling_params().has_temperature());
    EXPECT_TRUE(request->sampling_params().ignore_eos());
    pb::GenerateResponse response;
    for (uint32_t sent = 0; sent < request->sampling_params().max_tokens(); sent += 2) {
      response.mutable_chunk()->mutable_token_ids()->Resize(2, 5);
      writer->Write(response);
    }
    response.mutable_complete()->set_finish_reason(request->tokenized().input_ids(0) == 98 ? "stop" : "length");
    response.mutable_complete()->set_prompt_tokens(static_cast<uint32_t>(request->tokenized().input_ids_size()));
    writer->Write(response);
    return grpc::Status::OK;
  }

 private:
  int port_ = 0;
  absl::Mutex mu_;
  std::set<std::string> ids_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<grpc::Server> server_;
};

TEST(VllmClient, DescribesTheModelServed) {
  ScriptedWorker worker;
  const auto model = MakeVllmClient(worker.address(), "", 1)->Describe("");
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->name, "scripted");
  EXPECT_EQ(model->vocab_size, 1000);
  EXPECT_THAT(MakeVllmClient(worker.address(), "absent", 1)->Describe(""),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("scripted")));
}

TEST(VllmClient, CountsTokensOfEveryAnswerAndNamesEachRequest) {
  ScriptedWorker worker;
  const std::unique_ptr<Client> client = MakeVllmClient(worker.address(), "", 4);
  std::vector<Request> requests(20, Request{{1, 2, 3}, 8, -1});
  requests.push_back(Request{{98}, 8, -1});
  const Measurement run =
      SendAll(*client, requests, {.arrivals = {}, .max_concurrency = 4}, [](int64_t, const Record&) { return true; });
  const Summary summary = Summarize(run, {});
  EXPECT_EQ(summary.completed, 20);
  EXPECT_EQ(summary.input_tokens, 60);
  EXPECT_EQ(run.records[0].chunks.size(), 4u);
  EXPECT_EQ(run.records[0].output_tokens, 8);
  EXPECT_EQ(run.records[20].outcome, Outcome::kFailed);
  EXPECT_THAT(run.records[20].error, HasSubstr("stop"));
  EXPECT_EQ(worker.distinct_ids(), 21u);
}

}  // namespace
}  // namespace nibble::loadtest
