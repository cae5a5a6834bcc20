// Row 65: how a daemon ends; and what health says meanwhile.
#include <thread>

#include "absl/time/clock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/server_fixture.h"

namespace nibble::server {
namespace {

using grpc::StatusCode;
using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

class ServerDrain : public ServerFixture {
 protected:
  void SetUp() override {
    StartDaemon();
    engine_->Hold();
    context_.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(30)));  // a stream that never ends fails
    reader_ = stub_->Generate(&context_, Ask("hello", 20));
    v1::GenerateResponse event;
    EXPECT_TRUE(reader_->Read(&event));
    engine_->AwaitHeldStep();
  }
  void TearDown() override {}

  HealthCheckResponse::ServingStatus Check(grpc::StatusCode* code, const std::string& service = "") {
    grpc::ClientContext context;
    HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    *code = Health::NewStub(NewChannel())->Check(&context, request, &response).error_code();
    return response.status();
  }

  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader_;  // of a stream that runs
};

TEST_F(ServerDrain, Row65_RunningStreamsFinishAndNewOnesAreRefused) {
  std::thread drain([this] { daemon_->Drain(absl::Seconds(30)); });
  EXPECT_TRUE(Eventually([this] { return HttpGet("/readyz").find("503") != std::string::npos; }));
  EXPECT_THAT(HttpGet("/livez"), testing::HasSubstr("200")) << "draining is not death";
  EXPECT_EQ(Generate(Ask("late"), absl::Seconds(5)).status.error_code(), StatusCode::UNAVAILABLE);
  engine_->Release();
  const Reply reply = ReadAll(context_, *reader_);
  EXPECT_TRUE(reply.status.ok()) << reply.status.error_message();
  EXPECT_EQ(reply.ids.size(), 20u);
  drain.join();
  EXPECT_TRUE(Idle());
}

TEST_F(ServerDrain, Row65_GraceEndsWhatStillRuns) {
  std::thread release([this] { absl::SleepFor(absl::Milliseconds(100)), engine_->Release(); });
  engine_->SetScript([](const engine::SampleRequest&) { return absl::SleepFor(absl::Milliseconds(20)), 'x'; });
  daemon_->Drain(absl::Milliseconds(50));
  release.join();
  EXPECT_THAT(ReadAll(context_, *reader_).status, GrpcStatusIs(StatusCode::UNAVAILABLE, "the server stops"));
  EXPECT_TRUE(Idle());
}

TEST_F(ServerDrain, Row65_HurryEndsADrainAtOnce) {
  engine_->SetScript([](const engine::SampleRequest&) { return absl::SleepFor(absl::Milliseconds(20)), 'x'; });
  const absl::Time start = absl::Now();
  std::thread hurry([this] {
    absl::SleepFor(absl::Milliseconds(50));
    daemon_->Hurry();
    engine_->Release();
  });
  daemon_->Drain(absl::Seconds(60));
  hurry.join();
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  EXPECT_EQ(ReadAll(context_, *reader_).status.error_code(), StatusCode::UNAVAILABLE);
}

TEST_F(ServerDrain, HealthKnowsItsServicesAndEndsItsWatches) {
  StatusCode code;
  EXPECT_EQ(Check(&code), HealthCheckResponse::SERVING);
  EXPECT_EQ(Check(&code, "nibble.v1.Inference"), HealthCheckResponse::SERVING);
  Check(&code, "no.such.Service");
  EXPECT_EQ(code, StatusCode::NOT_FOUND);

  grpc::ClientContext context;
  const auto stub = Health::NewStub(NewChannel());
  const auto watch = stub->Watch(&context, HealthCheckRequest());
  HealthCheckResponse response;
  EXPECT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  engine_->Release();
  std::thread drain([this] { daemon_->Drain(absl::Seconds(60)); });
  EXPECT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_FALSE(watch->Read(&response));
  EXPECT_TRUE(watch->Finish().ok());
  drain.join();
}

TEST_F(ServerDrain, AWatchThatIsCancelledIsForgotten) {
  const auto stub = Health::NewStub(NewChannel());
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    const auto watch = stub->Watch(&context, HealthCheckRequest());
    HealthCheckResponse response;
    EXPECT_TRUE(watch->Read(&response));
    context.TryCancel();
    EXPECT_EQ(watch->Finish().error_code(), StatusCode::CANCELLED);
  }
  EXPECT_TRUE(Eventually([this] { return daemon_->health_watches() == 0; })) << daemon_->health_watches();
  engine_->Release();
  daemon_->Drain(absl::Seconds(30));
}

}  // namespace
}  // namespace nibble::server
