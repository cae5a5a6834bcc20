#include "loadtest/client_http.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "loadtest/client.h"
#include "loadtest/runner.h"
#include "tests/base/status_matchers.h"
#include "tests/loadtest/scripted_http_server.h"

namespace nibble::loadtest {
namespace {

using testing::HasSubstr;

constexpr char kAnswer[] =
    "data: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: {\"choices\":[{\"text\":\"\"}]}\n\n"
    "data: {\"choices\":[{\"text\":\"b\"}]}\n\n"
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n";

Record SendRequest(const ScriptedServer& server, const Request& request) {
  const auto client = MakeHttpClient(server.address(), "", 1);
  EXPECT_THAT(client->Describe(""), IsOk());
  return SendAll(*client, {request}, {}, [](int64_t, const Record&) { return true; }).records[0];
}

Record SendOne(const ScriptedServer& server, int64_t cancel_after) {
  return SendRequest(server, {{7, 8, 9}, 4, cancel_after});
}

TEST(HttpClient, DescribesTheModelServed) {
  ScriptedServer server("200 OK", kAnswer);
  const auto model = MakeHttpClient(server.address(), "", 1)->Describe("");
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->name, "m");
  EXPECT_EQ(model->vocab_size, 640);
}

TEST(HttpClient, UsageCountsTokensAndTextMarksTheirTimes) {
  ScriptedServer server("200 OK", kAnswer);
  const Record record = SendOne(server, -1);
  EXPECT_EQ(record.outcome, Outcome::kCompleted) << record.error;
  EXPECT_EQ(record.prompt_tokens, 3);
  EXPECT_EQ(record.output_tokens, 4);
  EXPECT_EQ(record.chunks.size(), 2u);
}

TEST(HttpClient, SendsTokenIdsAndGreedySampling) {
  ScriptedServer server("200 OK", kAnswer);
  SendOne(server, -1);
  for (const char* part : {"POST /v1/completions", "\"prompt\":[7,8,9]", "\"temperature\":0", "\"ignore_eos\":true",
                           "\"max_tokens\":4", "\"model\":\"m\""}) {
    EXPECT_THAT(server.last_request(), HasSubstr(part));
  }
}

TEST(HttpClient, SendsTheAdapterAsTheModelAndTheKeyAsAToken) {
  ScriptedServer server("200 OK", kAnswer);
  Request request{{7}, 4, -1};
  request.adapter = "tuned";
  request.key = "secret";
  SendRequest(server, request);
  EXPECT_THAT(server.last_request(), HasSubstr("\"model\":\"tuned\""));
  EXPECT_THAT(server.last_request(), HasSubstr("Authorization: Bearer secret\r\n"));
}

TEST(HttpClient, AStalledReaderReadsOnLater) {
  ScriptedServer server("200 OK", kAnswer);
  Request request{{7}, 4, -1};
  request.stall_after = 0;
  request.stall_time = std::chrono::milliseconds(50);
  const Record record = SendRequest(server, request);
  EXPECT_EQ(record.outcome, Outcome::kStalled);
  EXPECT_EQ(record.output_tokens, 4);
  EXPECT_GE(record.chunks[0] - record.sent, std::chrono::milliseconds(50));
}

TEST(HttpClient, HangsUpAfterTheTokensAsked) {
  ScriptedServer server("200 OK", kAnswer);
  EXPECT_EQ(SendOne(server, 1).outcome, Outcome::kCancelled);
}

TEST(HttpClient, ARefusalIsAFailureWithTheServersWords) {
  ScriptedServer server("429 Too Many Requests", "{\"error\":\"come again\"}");
  const Record record = SendOne(server, -1);
  EXPECT_EQ(record.outcome, Outcome::kFailed);
  EXPECT_THAT(record.error, HasSubstr("429"));
  EXPECT_THAT(record.error, HasSubstr("come again"));
}

TEST(HttpClient, ARefusalIsAFailureOfAStalledReaderToo) {
  ScriptedServer server("429 Too Many Requests", "{\"error\":\"come again\"}");
  Request request{{7}, 4, -1};
  request.stall_after = 0;
  request.stall_time = std::chrono::milliseconds(1);
  EXPECT_EQ(SendRequest(server, request).status, "http status 429");
}

TEST(HttpClient, AnErrorInsideTheStreamIsAFailure) {
  ScriptedServer server("200 OK", "data: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: {\"error\":{\"code\":500}}\n\n");
  const Record record = SendOne(server, -1);
  EXPECT_EQ(record.outcome, Outcome::kFailed);
  EXPECT_THAT(record.error, HasSubstr("500"));
}

TEST(HttpClient, AnAnswerThatIsNotWholeIsAFailure) {
  const std::string whole = kAnswer;
  const Record broken = SendOne(ScriptedServer("200 OK", whole.substr(0, whole.size() - 14)), -1);
  EXPECT_EQ(broken.outcome, Outcome::kFailed);
  EXPECT_THAT(broken.error, HasSubstr("[DONE]"));
  const Record empty = SendOne(ScriptedServer("200 OK", "data: [DONE]\n\n"), -1);
  EXPECT_EQ(empty.outcome, Outcome::kFailed);
  const Record few =
      SendOne(ScriptedServer("200 OK", "data: {\"usage\":{\"completion_tokens\":2}}\n\ndata: [DONE]\n\n"), -1);
  EXPECT_EQ(few.outcome, Outcome::kFailed);
  EXPECT_THAT(few.error, HasSubstr("asked for 4 tokens, got 2"));
}

TEST(HttpClient, JsonOfTheWrongTypesIsNotRead) {
  const char* const answer =
      "data: {\"choices\":[7],\"usage\":{\"prompt_tokens\":null,\"completion_tokens\":\"4\"}}\n\n"
      "data: {\"choices\":[null]}\n\ndata: {\"choices\":{}}\n\ndata: [1]\n\ndata: {\n\n"
      "data: {\"error\":\"\xff\"}\n\ndata: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: [DONE]\n\n";
  const Record record = SendOne(ScriptedServer("200 OK", answer), -1);
  EXPECT_EQ(record.outcome, Outcome::kCompleted) << record.error;
  EXPECT_EQ(record.output_tokens, 1);
  EXPECT_EQ(record.prompt_tokens, 3);
}

TEST(HttpClient, AServerThatSaysNothingIsAFailureInTime) {
  const int silent = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(silent, reinterpret_cast<sockaddr*>(&address), size) + listen(silent, 4), 0);
  getsockname(silent, reinterpret_cast<sockaddr*>(&address), &size);
  const auto client = MakeHttpClient(absl::StrCat("127.0.0.1:", ntohs(address.sin_port)), "m", 1);
  const Request request{{7}, 4, -1, std::chrono::milliseconds(50)};
  const Record record = SendAll(*client, {request}, {}, [](int64_t, const Record&) { return true; }).records[0];
  EXPECT_EQ(record.outcome, Outcome::kFailed);
  EXPECT_THAT(record.error, HasSubstr("imeout"));
  close(silent);
}

TEST(HttpClient, NobodyListeningIsAnError) {
  EXPECT_THAT(MakeHttpClient("127.0.0.1:1", "", 1)->Describe(""),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("127.0.0.1:1")));
}

TEST(MakeClient, OnlyKnownTargets) {
  for (const char* target : {"ftp://a:1", "grpc://", "127.0.0.1:50051", ""}) {
    EXPECT_THAT(MakeClient(target, "", 1, {}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--target")));
  }
}

}  // namespace
}  // namespace nibble::loadtest
