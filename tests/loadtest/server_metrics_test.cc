#include "loadtest/server_metrics.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/loadtest/scripted_http_server.h"

namespace nibble::loadtest {
namespace {

constexpr size_t kUsage = 0, kRunning = 1, kWaiting = 2, kPreemptions = 3;

TEST(ParseMetrics, ReadsItsOwnFromAmongOthers) {
  const ScrapedValues values = ParseMetrics(
      "# HELP vllm:num_requests_running of 9\n# TYPE vllm:num_requests_running gauge\n"
      "vllm:num_requests_running_more 7\n"
      "vllm:num_requests_running{model_name=\"a\",engine=\"0\"} 3\n"
      "vllm:num_requests_waiting 5 1700000000000\r\n"
      "vllm:kv_cache_usage_perc{engine=\"0\"} 2.5e-1\n");
  EXPECT_EQ(values[kRunning], 3);
  EXPECT_EQ(values[kWaiting], 5);
  EXPECT_EQ(values[kUsage], 0.25);
  EXPECT_TRUE(std::isnan(values[kPreemptions]));
}

TEST(ParseMetrics, SeveralEnginesAddUpAndSharesAreAveraged) {
  const ScrapedValues values = ParseMetrics(
      "vllm:num_requests_running{engine=\"0\"} 3\nvllm:num_requests_running{engine=\"1\"} 4\n"
      "vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\nvllm:kv_cache_usage_perc{engine=\"1\"} 1\n");
  EXPECT_EQ(values[kRunning], 7);
  EXPECT_EQ(values[kUsage], 0.75);
}

TEST(ParseMetrics, KnowsWhatLlamaCppCallsThem) {
  const ScrapedValues values = ParseMetrics("llamacpp:requests_processing 2\nllamacpp:requests_deferred 1\n");
  EXPECT_EQ(values[kRunning], 2);
  EXPECT_EQ(values[kWaiting], 1);
}

TEST(ParseMetrics, LabelsMayHoldAnythingAndWhatDoesNotParseIsSkipped) {
  EXPECT_EQ(ParseMetrics("vllm:num_requests_running{model_name=\"} 9 {\"} 4")[kRunning], 4);
  for (const char* text : {"", "vllm:num_requests_running", "vllm:num_requests_running ", "vllm:num_requests_running x",
                           "vllm:num_requests_running{", "vllm:num_requests_running{a=\"b\"}",
                           "vllm:num_requests_running NaN", "{} 1", " 1"}) {
    EXPECT_TRUE(std::isnan(ParseMetrics(text)[kRunning])) << text;
  }
}

TEST(Scraper, ScrapesAtTheStartAndAtTheEnd) {
  ScriptedServer server("200 OK", "vllm:num_requests_running 3\n");
  Scraper scraper(absl::StrCat("http://", server.address(), "/metrics"));
  const ServerMetrics metrics = scraper.Stop();
  ASSERT_GE(metrics.samples.size(), 2u);
  EXPECT_LT(metrics.samples.front().at, metrics.samples.back().at);
  EXPECT_EQ(metrics.samples.front().values[kRunning], 3);
  EXPECT_EQ(metrics.failed_scrapes, 0);
}

TEST(Scraper, AFailureIsCountedAndSaysWhereItWas) {
  Scraper scraper("http://127.0.0.1:1/metrics");
  const ServerMetrics metrics = scraper.Stop();
  EXPECT_TRUE(metrics.samples.empty());
  EXPECT_GE(metrics.failed_scrapes, 2);
  EXPECT_THAT(metrics.first_failure, testing::HasSubstr("127.0.0.1:1"));
  ScriptedServer server("404 Not Found", "vllm:num_requests_running 3\n");
  EXPECT_TRUE(Scraper(absl::StrCat("http://", server.address(), "/metrics")).Stop().samples.empty());
}

}  // namespace
}  // namespace nibble::loadtest
