// Rows of the robustness table about who calls: keys, methods, other tenants' things, and what must not be told.
#include <grpcpp/generic/generic_stub.h>

#include <future>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/weights/sha256.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "kserve/inference.grpc.pb.h"
#include "nibble/v1/adapters.grpc.pb.h"
#include "server/access.h"
#include "tests/server/tenants_fixture.h"
#include "vllm/engine.grpc.pb.h"

namespace nibble::server {
namespace {

using grpc::StatusCode;
using testing::HasSubstr;
namespace vllm_pb = vllm::grpc::engine;

using Metadata = std::vector<std::pair<std::string, std::string>>;

class ServerRowsIdentity : public TenantsFixture {
 protected:
  // An empty message to any path.
  grpc::Status Call(const std::string& path, const Metadata& metadata, const std::string& authority = "") {
    grpc::GenericStub stub(NewChannel());
    grpc::ClientContext context;
    for (const auto& [name, value] : metadata) context.AddMetadata(name, value);
    if (!authority.empty()) context.set_authority(authority);
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(1)));  // a health watch has no end
    const grpc::Slice nothing("");
    grpc::ByteBuffer request(&nothing, 1), response;
    std::promise<grpc::Status> done;
    stub.UnaryCall(&context, path, grpc::StubOptions(), &request, &response,
                   [&done](grpc::Status status) { done.set_value(std::move(status)); });
    return done.get_future().get();
  }
  grpc::Status CallAs(const std::string& key, const std::string& path) {
    return Call(path, {{"authorization", "Bearer " + key}});
  }
  grpc::Status Abort(const std::string& key, const std::string& id) {
    const auto stub = vllm_pb::VllmEngine::NewStub(NewChannel());
    grpc::ClientContext context;
    AddKey(context, key);
    vllm_pb::AbortRequest request;
    request.add_request_ids(id);
    vllm_pb::AbortResponse response;
    return stub->Abort(&context, request, &response);
  }
};

// Every method of every service, as the contracts declare them.
std::vector<std::string> AllMethods() {
  std::vector<std::string> paths;
  const std::vector<const google::protobuf::FileDescriptor*> files = {
      v1::GetModelRequest::descriptor()->file(), v1::LoadAdapterRequest::descriptor()->file(),
      vllm_pb::AbortRequest::descriptor()->file(), inference::ModelInferRequest::descriptor()->file(),
      grpc::health::v1::HealthCheckRequest::descriptor()->file()};
  for (const auto* file : files) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        paths.push_back(absl::StrCat("/", file->service(s)->full_name(), "/", file->service(s)->method(m)->name()));
      }
    }
  }
  EXPECT_GT(paths.size(), 20u);
  return paths;
}

TEST_F(ServerRowsIdentity, Row31_OnlyAWholeValidKeyIsLetIn) {
  const std::string path = "/nibble.v1.Inference/ListModels";
  const std::string key = kAliceKey;
  EXPECT_TRUE(Call(path, {{"authorization", "Bearer " + key}}).ok());
  EXPECT_TRUE(Call(path, {{"authorization", "bearer " + key}}).ok());
  EXPECT_TRUE(Call(path, {{"x-api-key", key}}).ok());
  const std::vector<Metadata> refused = {
      {},
      {{"authorization", ""}},
      {{"authorization", "Bearer "}},
      {{"authorization", key}},
      {{"authorization", "Basic " + key}},
      {{"authorization", "Bearer wrong"}},
      {{"authorization", "Bearer " + key.substr(0, key.size() - 1)}},
      {{"authorization", "Bearer " + key + "0"}},
      {{"authorization", "Bearer " + engine::Sha256Hex(key)}},
      {{"x-api-key", ""}},
      {{"x-api-key", "Bearer " + key}},
      {{"authorization", "Bearer " + key}, {"authorization", "Bearer " + key}},
      {{"authorization", "Bearer wrong"}, {"x-api-key", key}},
      {{"x-tenant", "alice"}},
  };
  std::string message;
  for (const Metadata& metadata : refused) {
    const grpc::Status status = Call(path, metadata);
    EXPECT_EQ(status.error_code(), StatusCode::UNAUTHENTICATED);
    if (message.empty()) message = status.error_message();
    EXPECT_EQ(status.error_message(), message) << "why is not told";
  }
}

TEST_F(ServerRowsIdentity, Row32_WithoutAKeyOnlyHealthAnswers) {
  for (const std::string& path : AllMethods()) {
    const grpc::Status status = Call(path, {});
    if (AccessTo(path) == Access::kOpen) {
      EXPECT_NE(status.error_code(), StatusCode::UNAUTHENTICATED) << path;
    } else {
      EXPECT_EQ(status.error_code(), StatusCode::UNAUTHENTICATED) << path;
    }
  }
  for (const char* path :
       {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "/a.B/C", "/",
        "nibble.v1.Inference/ListModels", "/nibble.v1.Inference/ListModels/", "//nibble.v1.Inference/ListModels",
        "/grpc.health.v1.Health/Check/../../nibble.v1.Inference"}) {
    EXPECT_EQ(Call(path, {}).error_code(), StatusCode::UNAUTHENTICATED) << path;
    EXPECT_EQ(CallAs(kAliceKey, path).error_code(), StatusCode::UNIMPLEMENTED) << path;
  }
  for (const char* authority : {"grpc.health.v1.Health", "localhost/grpc.health.v1.Health/Check", "127.0.0.1"}) {
    EXPECT_EQ(Call("/nibble.v1.Inference/ListModels", {}, authority).error_code(), StatusCode::UNAUTHENTICATED);
  }
}

TEST_F(ServerRowsIdentity, Row32_EveryMethodThatIsServedHasItsLevelOfAccess) {
  for (const std::string& path : AllMethods()) {
    const StatusCode admin = CallAs(kAdminKey, path).error_code();
    const StatusCode tenant = CallAs(kAliceKey, path).error_code();
    EXPECT_NE(admin, StatusCode::PERMISSION_DENIED) << path << " is not in the table of access";
    EXPECT_EQ(admin == StatusCode::UNIMPLEMENTED, !AccessTo(path).has_value()) << path;
    const bool for_admins = AccessTo(path) == Access::kOperator || AccessTo(path) == Access::kAdmin;
    EXPECT_EQ(tenant == StatusCode::PERMISSION_DENIED, for_admins) << path;
  }
}

class ServerRowsHeldIdentity : public ServerRowsIdentity {
 protected:
  // A request of the tenant that has started and runs until Release().
  struct Open {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader;
  };
  std::unique_ptr<Open> Start(const std::string& key, const std::string& id) {
    auto open = std::make_unique<Open>();
    AddKey(open->context, key);
    v1::GenerateRequest request = Ask("hold", 30);
    request.set_request_id(id);
    open->reader = stub_->Generate(&open->context, request);
    v1::GenerateResponse event;
    EXPECT_TRUE(open->reader->Read(&event));
    return open;
  }
};

TEST_F(ServerRowsHeldIdentity, Row27_RequestIdsArePrivateToATenant) {
  engine_->Hold();
  const auto of_alice = Start(kAliceKey, "same");
  const auto of_bob = Start(kBobKey, "same");
  v1::GenerateRequest again = Ask("hold", 30);
  again.set_request_id("same");
  EXPECT_THAT(GenerateAs(kAliceKey, again).status, GrpcStatusIs(StatusCode::ALREADY_EXISTS, "request_id"));
  engine_->Release();
  EXPECT_TRUE(ReadAll(of_alice->context, *of_alice->reader).status.ok());
  EXPECT_TRUE(ReadAll(of_bob->context, *of_bob->reader).status.ok());
}

TEST_F(ServerRowsHeldIdentity, Row33_AnothersRequestCannotBeAbortedNorFound) {
  engine_->Hold();
  const auto of_bob = Start(kBobKey, "bobs");
  const grpc::Status others = Abort(kAliceKey, "bobs");
  const grpc::Status unknown = Abort(kAliceKey, "nobodys");
  EXPECT_EQ(others.error_code(), unknown.error_code());
  EXPECT_EQ(others.error_message(), unknown.error_message());
  engine_->Release();
  EXPECT_TRUE(ReadAll(of_bob->context, *of_bob->reader).status.ok());
  engine_->Hold();
  const auto own = Start(kBobKey, "bobs");
  EXPECT_TRUE(Abort(kBobKey, "bobs").ok());
  engine_->Release();
  EXPECT_EQ(ReadAll(own->context, *own->reader).status.error_code(), StatusCode::CANCELLED);
}

TEST_F(ServerRowsIdentity, Row33_AForbiddenAdapterLooksLikeOneThatIsNot) {
  v1::GenerateRequest request = Ask("hello");
  request.set_adapter("bobs-own");
  const grpc::Status others = GenerateAs(kAliceKey, request).status;
  request.set_adapter("nobodys");
  const grpc::Status unknown = GenerateAs(kAliceKey, request).status;
  EXPECT_EQ(others.error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(others.error_code(), unknown.error_code());
  EXPECT_EQ(others.error_message(), unknown.error_message());
}

TEST_F(ServerRowsIdentity, Row37_Row40_UsageTellsOfTheCallersOwnPrefixesAlone) {
  const v1::GenerateRequest request = Ask(std::string(200, 'p'), 2);
  const auto cached = [&](const std::string& key) {
    const Reply reply = GenerateAs(key, request);
    EXPECT_TRUE(reply.status.ok()) << reply.status.error_message();
    return reply.finished.at(0).usage().cached_tokens();
  };
  EXPECT_EQ(cached(kAliceKey), 0);
  EXPECT_GT(cached(kAliceKey), 100);
  EXPECT_EQ(cached(kBobKey), 0);
  EXPECT_EQ(CallAs(kBobKey, "/vllm.grpc.engine.VllmEngine/GetLoads").error_code(), StatusCode::PERMISSION_DENIED);
}

TEST_F(ServerRowsIdentity, Row36_NeitherKeyNorPromptIsInLogsErrorsOrMetrics) {
  const std::string key = "canary-key-93f1d0";
  const std::string prompt = "canary prompt 5b7e";
  testing::internal::CaptureStderr();
  std::string told;
  for (const std::string& path : AllMethods()) told += CallAs(key, path).error_message();
  told += GenerateAs(key, Ask(prompt)).status.error_message();
  v1::GenerateRequest request = Ask(prompt);
  EXPECT_TRUE(GenerateAs(kAliceKey, request).status.ok());
  request.set_request_id(std::string(200, 'x') + prompt);
  told += GenerateAs(kAliceKey, request).status.error_message();
  request = Ask(prompt, 1 << 20);
  told += GenerateAs(kAliceKey, request).status.error_message();
  told += HttpGet("/metrics");
  ExpectCanaryAndFreePages();
  daemon_->Drain(absl::Seconds(5));
  told += testing::internal::GetCapturedStderr();
  EXPECT_THAT(told, HasSubstr("draining")) << "the log was not captured";
  for (const std::string& secret :
       {key, prompt, std::string(kAliceKey), std::string(kBobKey), engine::Sha256Hex(kAliceKey)}) {
    EXPECT_THAT(told, testing::Not(HasSubstr(secret)));
  }
  daemon_ = nullptr;  // it is drained: nothing to check at the end
}

}  // namespace
}  // namespace nibble::server
