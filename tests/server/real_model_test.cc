// Row 4 and the daemon's promise with a real model: what a request gets does not depend on its neighbours.
#include <cstdlib>
#include <thread>

#include "gtest/gtest.h"
#include "nibble/v1/inference.grpc.pb.h"
#include "nlohmann/json.hpp"
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

constexpr char kSchema[] =
    R"({"type":"object","properties":{"name":{"type":"string","maxLength":24},"year":{"type":"integer","minimum":1000,
        "maximum":2999},"kind":{"enum":["river","sea","lake"]},"deep":{"type":"boolean"},
        "places":{"type":"array","items":{"type":"string","maxLength":12},"minItems":1,"maxItems":3}},
        "required":["name","year","kind","deep","places"],"additionalProperties":false})";

void ExpectValid(const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  ASSERT_TRUE(json.is_object() && json.size() == 5) << text;
  EXPECT_TRUE(json.at("name").is_string() && json.at("deep").is_boolean()) << text;
  EXPECT_TRUE(json.at("year").is_number_integer() && json.at("year") >= 1000 && json.at("year") <= 2999) << text;
  EXPECT_TRUE(json.at("kind") == "river" || json.at("kind") == "sea" || json.at("kind") == "lake") << text;
  const auto& places = json.at("places");
  ASSERT_TRUE(places.is_array() && !places.empty() && places.size() <= 3) << text;
  for (const auto& place : places) EXPECT_TRUE(place.is_string()) << text;
}

TEST_F(RealModel, AnswersUnderASchemaValidateInAnyCompanyAndLeaveTheirNeighboursAlone) {
  std::vector<v1::GenerateRequest> requests;
  for (int i = 0; i < 16; ++i) {
    requests.push_back(Ask("Water number " + std::to_string(i) + " as JSON:", 200));
    v1::GenerateRequest& request = requests.back();
    request.mutable_sampling()->set_temperature(static_cast<float>(i % 4) * 0.5f);
    request.mutable_sampling()->set_seed(static_cast<uint64_t>(i));
    if (i % 4 == 3) {
      request.mutable_stopping()->set_max_tokens(24);  // an unconstrained neighbour
    } else {
      request.mutable_constraint()->set_json_schema(kSchema);
    }
  }
  std::vector<Reply> alone;
  for (const auto& request : requests) alone.push_back(Generate(request, absl::Minutes(2)));
  const std::vector<Reply> together = Together(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(together[i].status.ok()) << together[i].status.error_message();
    EXPECT_EQ(together[i].ids, alone[i].ids) << i;
    if (requests[i].has_constraint()) ExpectValid(together[i].text);
  }
}

}  // namespace
}  // namespace nibble::server
