// A daemon on free ports with a scripted engine, and a real gRPC client. After every test the universal expectations
// are checked: another request still gets the same answer as before, and no page stays held.
#ifndef NIBBLE_TESTS_SERVER_SERVER_FIXTURE_H_
#define NIBBLE_TESTS_SERVER_SERVER_FIXTURE_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nibble/v1/inference.grpc.pb.h"
#include "server/daemon.h"
#include "tests/server/tiny_model.h"

namespace nibble::server {

// Everything that one Generate call told its client.
struct Reply {
  grpc::Status status;
  std::vector<v1::GenerateResponse> events;
  std::string text;  // of choice 0
  std::vector<int32_t> ids;
  std::vector<v1::Finished> finished;
  std::string pushback_ms;  // trailing metadata
};

class ServerFixture : public testing::Test {
 protected:
  void SetUp() override { StartDaemon(); }
  void TearDown() override;

  // Change these before StartDaemon; SetUp of a derived fixture does it.
  ScriptedEngineOptions engine_options_;
  DaemonOptions options_;
  std::function<void(ServedModel&)> prepare_model_;  // where given
  void StartDaemon();
  void StopDaemon() { daemon_.reset(); }
  // Of every channel that is made from now on.
  std::shared_ptr<grpc::ChannelCredentials> credentials_ = grpc::InsecureChannelCredentials();
  // Sent with every call of the fixture, where not empty.
  std::string key_;
  void AddKey(grpc::ClientContext& context, const std::string& key) const {
    if (!key.empty()) context.AddMetadata("authorization", "Bearer " + key);
  }

  // Greedy text request.
  static v1::GenerateRequest Ask(const std::string& text, int64_t max_tokens = 8);
  Reply Generate(const v1::GenerateRequest& request, absl::Duration deadline = absl::Seconds(30));
  Reply GenerateAs(const std::string& key, const v1::GenerateRequest& request);
  static Reply ReadAll(grpc::ClientContext& context, grpc::ClientReader<v1::GenerateResponse>& reader);
  // Status of a request that must not start.
  grpc::Status Refusal(const std::function<void(v1::GenerateRequest&)>& change);
  std::shared_ptr<grpc::Channel> NewChannel() const;
  // A connection to a port of this machine; the caller closes it.
  static int Connect(const std::string& address);
  int ConnectHttp() const { return Connect(daemon_->metrics_address()); }
  // Plain HTTP on the metrics port: the whole answer; empty if the connection was closed without one.
  std::string Http(const std::string& request) const;
  std::string HttpGet(const std::string& path) const { return Http("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"); }

  // Waits until `condition` holds; false after half a minute, which only a daemon that will
  // never get there takes.
  static bool Eventually(const std::function<bool()>& condition);
  bool Idle() const;
  void ExpectCanaryAndFreePages();

  ScriptedEngine* engine_ = nullptr;  // inside the daemon
  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<v1::Inference::Stub> stub_;
  std::string canary_;
};

// MATCHER: a gRPC status with this code whose message contains this text.
MATCHER_P2(GrpcStatusIs, code, text, "has the code and a message that contains the text") {
  *result_listener << arg.error_code() << ": " << arg.error_message();
  return arg.error_code() == code && arg.error_message().find(text) != std::string::npos;
}

}  // namespace nibble::server

#endif  // NIBBLE_TESTS_SERVER_SERVER_FIXTURE_H_
