// Row 4 and the daemon's promise with a real model: what a request gets does not depend on its neighbours.
#include <cstdlib>
#include <thread>

#include "gtest/gtest.h"
#include "nibble/v1/inference.grpc.pb.h"
#include "server/daemon.h"
#include "server/load_model.h"
#include "tests/server/server_fixture.h"

namespace nibble::server {
namespace {

std::string ModelPath() {
  const char* cache = std::getenv("NIBBLE_CACHE");
  return (cache != nullptr ? std::string(cache) : std::string(std::getenv("HOME")) + "/.cache/nibble") +
         "/smollm2.gguf";
}

class RealModel : public ServerFixture {
 protected:
  void SetUp() override {
    LoadOptions load;
    load.path = ModelPath();
    load.engine.threads = 2;
    auto model = LoadModel(load);
    ASSERT_TRUE(model.ok()) << model.status() << "; deploy/fetch_model.py smollm2 fetches it";
    DaemonOptions options;
    options.listen = options.metrics = "127.0.0.1:0";
    auto daemon = Daemon::Start(*std::move(model), options);
    ASSERT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = *std::move(daemon);
    stub_ = v1::Inference::NewStub(NewChannel());
  }
  void TearDown() override {
    ASSERT_NE(daemon_, nullptr);
    EXPECT_TRUE(Eventually([this] { return Idle(); }));
  }

  std::vector<Reply> Together(const std::vector<v1::GenerateRequest>& requests) {
    std::vector<Reply> replies(requests.size());
    std::vector<std::thread> clients;
    for (size_t i = 0; i < requests.size(); ++i) {
      clients.emplace_back([&, i] { replies[i] = Generate(requests[i], absl::Minutes(2)); });
    }
    for (std::thread& client : clients) client.join();
    return replies;
  }
};

TEST_F(RealModel, Row4_PenaltiesChangeOnlyTheirOwnRow) {
  std::vector<v1::GenerateRequest> plain;
  for (const char* text : {"Once upon a time", "The sea is", "One two three", "In the year"}) {
    plain.push_back(Ask(text, 24));
  }
  std::vector<Reply> alone;
  for (const auto& request : plain) alone.push_back(Generate(request));
  std::vector<v1::GenerateRequest> mixed = plain;
  v1::Sampling* sampling = mixed[1].mutable_sampling();
  sampling->set_repetition_penalty(1.8f);
  sampling->set_presence_penalty(2.0f);
  sampling->set_frequency_penalty(2.0f);
  const std::vector<Reply> together = Together(mixed);
  for (const size_t i : {0u, 2u, 3u}) EXPECT_EQ(together[i].ids, alone[i].ids) << i;
  EXPECT_NE(together[1].ids, alone[1].ids) << "the penalties did nothing";
}

TEST_F(RealModel, SampledAnswersRepeatInAnyCompany) {
  std::vector<v1::GenerateRequest> requests;
  for (int i = 0; i < 12; ++i) {
    requests.push_back(Ask("Tell me about number " + std::to_string(i), 16));
    requests.back().mutable_sampling()->set_temperature(0.8f);
    requests.back().mutable_sampling()->set_seed(static_cast<uint64_t>(i));
  }
  std::vector<Reply> alone;
  for (const auto& request : requests) alone.push_back(Generate(request));
  const std::vector<Reply> together = Together(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_TRUE(together[i].status.ok());
    EXPECT_EQ(together[i].ids, alone[i].ids) << i;
  }
}

}  // namespace
}  // namespace nibble::server
