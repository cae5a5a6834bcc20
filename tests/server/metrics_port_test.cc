// Row 67 and what the metrics port says.
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/metrics.h"
#include "tests/server/server_fixture.h"

namespace nibble::server {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class ServerMetrics : public ServerFixture {
 protected:
  // The value of the sample whose line starts with this.
  double Value(const std::string& start) const {
    const std::string text = HttpGet("/metrics");
    const size_t line = text.find("\n" + start);
    EXPECT_NE(line, std::string::npos) << start;
    if (line == std::string::npos) return -1.0;
    return std::stod(text.substr(text.find("} ", line) + 2));
  }
};

TEST_F(ServerMetrics, Row67_OnlyGetAndOnlyKnownPaths) {
  EXPECT_THAT(Http("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"), StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(Http("DELETE /livez HTTP/1.1\r\nHost: x\r\n\r\n"), StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(HttpGet("/"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(HttpGet("/metrics/../etc/passwd"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(HttpGet("/readyz"), HasSubstr("ready"));
  EXPECT_THAT(HttpGet("/livez"), HasSubstr("alive"));
  EXPECT_THAT(Http("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), testing::EndsWith("\r\n\r\n"));
}

TEST_F(ServerMetrics, Row67_LargeHeaderIsRefused) {
  const std::string answer = Http(absl::StrCat("GET /metrics HTTP/1.1\r\nX: ", std::string(64 << 10, 'a'), "\r\n\r\n"));
  EXPECT_THAT(answer, testing::Not(HasSubstr("200 OK")));
}

TEST_F(ServerMetrics, Row67_ScrapeNeverWaitsForAStep) {
  engine_->Hold();
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Ask("hello", 4));
  engine_->AwaitHeldStep();
  for (int i = 0; i < 20; ++i) EXPECT_THAT(HttpGet("/metrics"), StartsWith("HTTP/1.1 200 "));
  EXPECT_EQ(Value("nibble_steps_total"), static_cast<double>(daemon_->Snapshot().steps));
  engine_->Release();
  EXPECT_TRUE(ReadAll(context, *reader).status.ok());
}

TEST_F(ServerMetrics, Row67_ManyScrapersAllGetAnswers) {
  std::atomic<int> answered = 0;
  std::vector<std::thread> scrapers;
  for (int s = 0; s < 50; ++s) {
    scrapers.emplace_back([&] {
      for (int i = 0; i < 4; ++i) answered += HttpGet("/metrics").rfind("HTTP/1.1 200", 0) == 0;
    });
  }
  for (std::thread& scraper : scrapers) scraper.join();
  EXPECT_EQ(answered, 200);
}

TEST_F(ServerMetrics, Row67_SilentClientsDoNotKeepALivenessProbeWaiting) {
  std::vector<int> silent;
  for (int i = 0; i < 32; ++i) silent.push_back(ConnectHttp());
  const absl::Time start = absl::Now();
  EXPECT_THAT(HttpGet("/livez"), StartsWith("HTTP/1.1 200 "));
  EXPECT_LT(absl::Now() - start, absl::Seconds(1));
  for (const int fd : silent) close(fd);
}

TEST_F(ServerMetrics, FiguresFollowTheRequests) {
  EXPECT_TRUE(Eventually([this] { return Idle(); }));
  const std::string labels = "{engine=\"0\",model_name=\"tiny\"}";
  const double prompt = Value("vllm:prompt_tokens_total" + labels);
  const double generated = Value("vllm:generation_tokens_total" + labels);
  EXPECT_TRUE(Generate(Ask("hello", 7)).status.ok());
  EXPECT_EQ(Generate(Ask("")).status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(Eventually([this] { return Idle(); }));
  EXPECT_EQ(Value("vllm:prompt_tokens_total" + labels), prompt + 5);
  EXPECT_EQ(Value("vllm:generation_tokens_total" + labels), generated + 7);
  EXPECT_EQ(Value("vllm:num_requests_running" + labels), 0.0);
  EXPECT_EQ(Value("vllm:kv_cache_usage_perc" + labels), 0.0);
  EXPECT_EQ(Value("vllm:request_success_total{engine=\"0\",finished_reason=\"length\",model_name=\"tiny\"}"), 2.0);
  EXPECT_EQ(Value("vllm:admission_rejections_total{engine=\"0\",model_name=\"tiny\",reason=\"invalid_argument\"}"),
            1.0);
  EXPECT_EQ(Value("vllm:time_to_first_token_seconds_count" + labels), 2.0);
  EXPECT_EQ(Value("vllm:e2e_request_latency_seconds_count" + labels), 2.0);
  // Of the canary's 16 tokens and these 7, the first of each answer has no gap before it.
  EXPECT_EQ(Value("vllm:inter_token_latency_seconds_count" + labels), 15.0 + 6.0);
}

TEST(Metrics, KvMemoryByFormAndCapacityAtThePresentMix) {
  sched::Counters counters;
  counters.pages_total = 100, counters.pages_free = 50, counters.pages_cached = 30;
  counters.raw_slots_total = 32, counters.raw_slots_free = 20, counters.raw_slots_cached = 5;
  KvInfo kv = {"klt2", 2.05, {}};
  kv.costs.page_bytes = 1000, kv.costs.raw_page_bytes = 8000, kv.costs.table_bytes = 77;
  kv.costs.window_pages = 1, kv.costs.sink_pages = 1;
  const Metrics metrics("m", kv, [&] { return counters; });
  const auto expect = [&](const std::string& name, const std::string& label, const std::string& value) {
    const std::string line = name + "{engine=\"0\"" + label + ",model_name=\"m\"} " + value + "\n";
    EXPECT_THAT(metrics.Render(), HasSubstr(line));
  };
  expect("nibble_kv_bytes", ",form=\"pages_used\"", "20000");
  expect("nibble_kv_bytes", ",form=\"pages_cached\"", "30000");
  expect("nibble_kv_bytes", ",form=\"raw_used\"", "56000");
  expect("nibble_kv_bytes", ",form=\"tables\"", "77");
  expect("nibble_kv_bits_per_element", "", "2.05");
  expect("nibble_kv_capacity_tokens", "", "3200");
  counters.sequences_running = 8;  // of 80 tokens each: ten of them are all that the raw slots are for
  expect("nibble_kv_capacity_tokens", "", "800");
}

TEST(Metrics, Row42_TenThousandTenantsHaveABoundedSetOfSeries) {
  Metrics metrics("m", KvInfo(), [] { return sched::Counters(); });
  RequestTimings timings;
  timings.prompt_tokens = 3;
  const auto series = [&metrics] {
    const std::string text = metrics.Render();
    return std::count(text.begin(), text.end(), '\n');
  };
  const auto serve = [&](int first, int last) {
    for (int i = first; i < last; ++i) {
      metrics.ObserveRequest(timings, absl::StrCat("t", i));
      metrics.CountRejection(absl::StatusCode::kResourceExhausted, absl::StrCat("t", i));
    }
  };
  serve(0, 100);
  const auto bounded = series();
  serve(100, 10'000);
  EXPECT_EQ(series(), bounded);
  const std::string text = metrics.Render();
  EXPECT_THAT(text, HasSubstr("tenant=\"t63\""));
  EXPECT_THAT(text, testing::Not(HasSubstr("tenant=\"t64\"")));
  EXPECT_THAT(text, HasSubstr("tenant=\"other\"} 29808"));  // 3 for each of the others
}

TEST_F(ServerMetrics, WithoutTenantsThereAreNoSeriesOfTenants) {
  EXPECT_THAT(HttpGet("/metrics"), testing::Not(HasSubstr("tenant=")));
}

}  // namespace
}  // namespace nibble::server
