// Fine-tunes through a daemon: who gets which, the operator's methods, and rows of the robustness table.
#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "nibble/v1/adapters.grpc.pb.h"
#include "tests/server/scripted_adapters.h"
#include "tests/server/tenants_fixture.h"

namespace nibble::server {
namespace {

using grpc::StatusCode;
using testing::HasSubstr;

class AdaptersFixture : public TenantsFixture {
 protected:
  AdaptersFixture() {
    adapters_.Write("shared", 's');
    adapters_.Write("alices", 'a');
    tenants_ = TenantText("alice", kAliceKey, "adapters: 'shared' adapters: 'alices'") +
               TenantText("bob", kBobKey, "adapters: 'shared'") +
               TenantText("ops", kAdminKey, "admin: true adapters: '*'");
    prepare_model_ = [this](ServedModel& model) { model.adapters = adapters_.Registry(10'000, clock_); };
  }

  static v1::GenerateRequest AskWith(const std::string& adapter, const std::string& text = "hello") {
    v1::GenerateRequest request = Ask(text, 8);
    request.set_adapter(adapter);
    return request;
  }
  v1::Adapters::Stub* Operator() {
    if (operator_ == nullptr) operator_ = v1::Adapters::NewStub(NewChannel());
    return operator_.get();
  }
  grpc::Status Load(const std::string& key, const std::string& name, v1::Adapter* loaded = nullptr) {
    grpc::ClientContext context;
    AddKey(context, key);
    v1::LoadAdapterRequest request;
    request.set_name(name);
    v1::Adapter response;
    const grpc::Status status = Operator()->Load(&context, request, loaded != nullptr ? loaded : &response);
    return status;
  }
  grpc::Status Unload(const std::string& key, const std::string& name) {
    grpc::ClientContext context;
    AddKey(context, key);
    v1::UnloadAdapterRequest request;
    request.set_name(name);
    v1::UnloadAdapterResponse response;
    return Operator()->Unload(&context, request, &response);
  }

  const std::function<sched::Nanos()> clock_ = [] { return sched::Nanos{1}; };
  ScriptedAdapters adapters_;

 private:
  std::unique_ptr<v1::Adapters::Stub> operator_;
};

TEST_F(AdaptersFixture, RequestsOfOneBatchRunWithTheirOwn) {
  EXPECT_EQ(GenerateAs(kAliceKey, AskWith("alices")).text, "aaaaaaaa");
  EXPECT_EQ(GenerateAs(kAliceKey, AskWith("shared")).text, "ssssssss");
  EXPECT_EQ(GenerateAs(kBobKey, AskWith("shared")).text, "ssssssss");
  EXPECT_NE(GenerateAs(kAliceKey, Ask("hello", 8)).text, "aaaaaaaa");
}

TEST_F(AdaptersFixture, AClientThatKnowsModelsOnlyNamesItAsTheModel) {
  v1::GenerateRequest request = Ask("hello", 8);
  request.set_model("shared");
  EXPECT_EQ(GenerateAs(kBobKey, request).text, "ssssssss");
  request.set_model("alices");
  EXPECT_THAT(GenerateAs(kBobKey, request).status, GrpcStatusIs(StatusCode::NOT_FOUND, "model: no such model"));
}

TEST_F(AdaptersFixture, Row33_AnotherTenantsAdapterDoesNotExist) {
  const grpc::Status forbidden = GenerateAs(kBobKey, AskWith("alices")).status;
  const grpc::Status absent = GenerateAs(kBobKey, AskWith("nobodys")).status;
  EXPECT_EQ(forbidden.error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(forbidden.error_code(), absent.error_code());
  EXPECT_EQ(forbidden.error_message(), absent.error_message());
  EXPECT_EQ(GenerateAs(kAliceKey, AskWith("nobodys")).status.error_message(), absent.error_message());
}

TEST_F(AdaptersFixture, Row37_PrefixesAreNotSharedBetweenAdapters) {
  const std::string text(200, 'x');
  const auto cached = [&](const std::string& adapter) {
    const Reply reply = GenerateAs(kAliceKey, AskWith(adapter, text));
    EXPECT_EQ(reply.finished.size(), 1u) << reply.status.error_message();
    return reply.finished.empty() ? -1 : reply.finished[0].usage().cached_tokens();
  };
  EXPECT_EQ(cached("shared"), 0);
  EXPECT_EQ(cached("alices"), 0);
  EXPECT_EQ(cached(""), 0);
  EXPECT_GT(cached("shared"), 0) << "the control: the same adapter finds its prefix";
  adapters_.Write("shared", 't');
  ASSERT_TRUE(Load(kAdminKey, "shared").ok());
  EXPECT_EQ(cached("shared"), 0) << "another file under the name is another adapter";
}

TEST_F(AdaptersFixture, Row60_ANameThatIsAPathIsRefused) {
  for (const char* name : {"../x", "/etc/passwd", "a/b", "."}) {
    EXPECT_THAT(GenerateAs(kAdminKey, AskWith(name)).status, GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "adapter: "));
    EXPECT_THAT(Load(kAdminKey, name), GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "name: "));
  }
}

TEST_F(AdaptersFixture, Row59_AFileThatIsNoneIsRefusedAndTheVersionBeforeServes) {
  EXPECT_EQ(GenerateAs(kAliceKey, AskWith("alices")).text, "aaaaaaaa");
  adapters_.WriteText("alices", "?");
  EXPECT_THAT(Load(kAdminKey, "alices"), GrpcStatusIs(StatusCode::FAILED_PRECONDITION, "is no scripted adapter"));
  EXPECT_EQ(GenerateAs(kAliceKey, AskWith("alices")).text, "aaaaaaaa");
}

TEST_F(AdaptersFixture, Row62_ARunningStreamKeepsItsVersion) {
  engine_->Hold();
  Reply reply;
  std::thread client([&] { reply = GenerateAs(kAliceKey, AskWith("alices")); });
  engine_->AwaitHeldStep();
  engine_->LetPass(2);
  engine_->AwaitHeldStep();
  adapters_.Write("alices", 'b');
  EXPECT_TRUE(Load(kAdminKey, "alices").ok());
  EXPECT_TRUE(Unload(kAdminKey, "alices").ok());
  engine_->Release();
  client.join();
  EXPECT_EQ(reply.text, "aaaaaaaa");
  EXPECT_EQ(GenerateAs(kAliceKey, AskWith("alices")).text, "bbbbbbbb");
}

// 10,000 with NIBBLE_LIFECYCLE_REQUESTS, as tests/run.sh sets it.
TEST_F(AdaptersFixture, Row62_CyclesUnderTraffic) {
  const char* const wanted = std::getenv("NIBBLE_LIFECYCLE_REQUESTS");
  const int cycles = wanted != nullptr ? std::atoi(wanted) : 500;
  std::atomic<bool> done = false;
  std::atomic<int> answers = 0, wrong = 0;
  std::thread client([&] {
    while (!done) {
      const Reply reply = GenerateAs(kAliceKey, AskWith("alices"));
      ++answers;
      // One version from the first token to the last.
      wrong += !reply.status.ok() || reply.text.size() != 8 || reply.text != std::string(8, reply.text[0]);
    }
  });
  for (int i = 0; i < cycles; ++i) {
    if (i % 50 == 0) adapters_.Write("alices", static_cast<char>('b' + i / 50 % 20));
    EXPECT_TRUE(Load(kAdminKey, "alices").ok());
    EXPECT_TRUE(Unload(kAdminKey, "alices").ok());
  }
  done = true;
  client.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(answers, 0);
  EXPECT_THAT(HttpGet("/metrics"),
              testing::Not(HasSubstr("nibble_adapter_loads_total{model_name=\"tiny\",engine=\"0\"} 0")));
}

TEST_F(AdaptersFixture, Row30_ThreeFaultsAreQuarantineAndNeighboursGoOn) {
  v1::GenerateRequest faulty = AskWith("alices");
  faulty.clear_text();
  faulty.mutable_token_ids()->add_ids(ScriptedEngine::kFaultToken);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(GenerateAs(kAliceKey, faulty).status.error_code(), StatusCode::INTERNAL);
  }
  EXPECT_THAT(GenerateAs(kAliceKey, AskWith("alices")).status,
              GrpcStatusIs(StatusCode::FAILED_PRECONDITION, "quarantine"));
  EXPECT_EQ(GenerateAs(kAliceKey, AskWith("shared")).text, "ssssssss");
  EXPECT_TRUE(Load(kAdminKey, "alices").ok());
  EXPECT_EQ(GenerateAs(kAliceKey, AskWith("alices")).text, "aaaaaaaa");
}

TEST_F(AdaptersFixture, TheOperatorSeesWhatIsLoaded) {
  EXPECT_THAT(Load(kAliceKey, "shared"), GrpcStatusIs(StatusCode::PERMISSION_DENIED, ""));
  EXPECT_THAT(Load("", "shared"), GrpcStatusIs(StatusCode::UNAUTHENTICATED, ""));
  v1::Adapter loaded;
  ASSERT_TRUE(Load(kAdminKey, "shared", &loaded).ok());
  EXPECT_EQ(loaded.bytes(), 1000);
  EXPECT_EQ(loaded.sha256().size(), 64u);
  grpc::ClientContext context;
  AddKey(context, kAdminKey);
  v1::ListAdaptersResponse list;
  ASSERT_TRUE(Operator()->List(&context, {}, &list).ok());
  ASSERT_EQ(list.adapters_size(), 2);
  EXPECT_EQ(list.adapters(0).name(), "alices");
  EXPECT_EQ(list.adapters(0).state(), v1::ADAPTER_STATE_ON_DISK);
  EXPECT_EQ(list.adapters(1).state(), v1::ADAPTER_STATE_LOADED);
  EXPECT_THAT(Load(kAdminKey, "absent"), GrpcStatusIs(StatusCode::NOT_FOUND, ""));
  EXPECT_TRUE(Unload(kAdminKey, "shared").ok());
  EXPECT_THAT(Unload(kAdminKey, "shared"), GrpcStatusIs(StatusCode::NOT_FOUND, ""));
}

TEST_F(AdaptersFixture, MetricsSayWhichRun) {
  engine_->Hold();
  Reply reply;
  std::thread client([&] { reply = GenerateAs(kAliceKey, AskWith("alices")); });
  engine_->AwaitHeldStep();
  EXPECT_THAT(HttpGet("/metrics"), HasSubstr("vllm:lora_requests_info{max_lora=\"64\",running_lora_adapters=\"\","
                                             "waiting_lora_adapters=\"alices\"} "));
  engine_->LetPass(1);
  engine_->AwaitHeldStep();
  EXPECT_THAT(HttpGet("/metrics"), HasSubstr("running_lora_adapters=\"alices\",waiting_lora_adapters=\"\"} "));
  engine_->Release();
  client.join();
  EXPECT_TRUE(Eventually(
      [this] { return HttpGet("/metrics").find("running_lora_adapters=\"\",waiting") != std::string::npos; }));
  EXPECT_THAT(HttpGet("/metrics"), HasSubstr("nibble_adapter_bytes{model_name=\"tiny\",engine=\"0\"} 1000"));
}

class AdaptersWithoutTenants : public AdaptersFixture {
 protected:
  void SetUp() override { ServerFixture::SetUp(); }
  void TearDown() override { ServerFixture::TearDown(); }
};

TEST_F(AdaptersWithoutTenants, EveryoneMayUseAllAndNobodyIsTheOperator) {
  EXPECT_EQ(Generate(AskWith("alices")).text, "aaaaaaaa");
  EXPECT_THAT(Load("", "shared"), GrpcStatusIs(StatusCode::PERMISSION_DENIED, ""));
  EXPECT_THAT(Load(kAdminKey, "shared"), GrpcStatusIs(StatusCode::PERMISSION_DENIED, ""));
}

}  // namespace
}  // namespace nibble::server
