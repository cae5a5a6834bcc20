#include "loadtest/report.h"

#include <limits>

#include "gmock/gmock.h"
#include "nlohmann/json.hpp"

namespace nibble::loadtest {
namespace {

Measurement MeasurementOfTwo() {
  Measurement run;
  run.records.resize(2);
  run.records[0].chunks = {run.records[0].scheduled + std::chrono::milliseconds(40)};
  run.records[0].output_tokens = 1;
  run.records[0].outcome = Outcome::kCompleted;
  run.records[1].scheduled += std::chrono::milliseconds(7);
  run.records[1].error = "no\nluck";
  run.seconds = 1;
  return run;
}

TEST(Report, HasTheKeysOfServingBenchmarks) {
  const Measurement run = MeasurementOfTwo();
  Options options;
  options.rate = std::numeric_limits<double>::infinity();
  const auto json = nlohmann::json::parse(ToJson(options, "m", run, {Summarize(run, {}), {}, {}, {}}));
  for (const std::string latency : {"ttft", "tpot", "itl", "e2el"}) {
    for (const std::string kind : {"mean", "median", "std", "p50", "p90", "p95", "p99", "p99.9"}) {
      EXPECT_TRUE(json.at(kind + "_" + latency + "_ms").is_number()) << kind << latency;
    }
  }
  EXPECT_EQ(json.at("mean_ttft_ms"), 40);
  EXPECT_EQ(json.at("completed"), 1);
  EXPECT_EQ(json.at("failed"), 1);
  EXPECT_EQ(json.at("request_rate"), "inf");
  for (const char* key : {"request_throughput", "output_throughput", "total_token_throughput", "request_goodput"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
}

TEST(Report, ASweepNamesItsRateAndEveryProbe) {
  const Measurement run = MeasurementOfTwo();
  Options options;
  options.slo_text = "ttft:50ms";
  const std::vector<Probe> probes = {{2, true, 2, Summarize(run, Slo{.ttft_ms = 50}), {}}, {4, false, 1, {}, {}}};
  const auto json = nlohmann::json::parse(SweepToJson(options, "m", 2, probes, run));
  EXPECT_EQ(json.at("highest_rate"), 2);
  EXPECT_EQ(json.at("slo"), "ttft:50ms");
  ASSERT_EQ(json.at("probes").size(), 2u);
  EXPECT_EQ(json.at("probes")[0].at("slo_attainment"), 0.5);
  EXPECT_EQ(json.at("probes")[0].at("mean_ttft_ms"), 40);
  EXPECT_EQ(json.at("probes")[1].at("held"), false);
}

TEST(Report, FiguresThatSayNothingOfTheServerSayThat) {
  const Measurement run = MeasurementOfTwo();
  Results results{Summarize(run, {}), {}, {}, {}};
  EXPECT_TRUE(nlohmann::json::parse(ToJson(Options(), "m", run, results)).at("invalid").is_null());
  results.invalid = "this machine was late";
  EXPECT_EQ(nlohmann::json::parse(ToJson(Options(), "m", run, results)).at("invalid"), "this machine was late");
}

TEST(Report, TheSteadyStateHasTheKeysOfARun) {
  const Measurement run = MeasurementOfTwo();
  const Summary summary = Summarize(run, {});
  EXPECT_FALSE(nlohmann::json::parse(ToJson(Options(), "m", run, {summary, {}, {}, {}})).contains("steady_state"));
  const auto json = nlohmann::json::parse(ToJson(Options(), "m", run, {summary, summary, {}, {}}));
  for (const char* key : {"request_throughput", "p99.9_ttft_ms", "completed"}) {
    EXPECT_EQ(json.at("steady_state").at(key), json.at(key));
  }
}

TEST(Report, MetricsAreListsOnTheRunsTimeAxis) {
  Measurement run = MeasurementOfTwo();
  const double none = std::numeric_limits<double>::quiet_NaN();
  run.metrics.samples = {{run.start, {0.5, 3, none, none}},
                         {run.start + std::chrono::milliseconds(250), {1, none, none, none}}};
  run.metrics.failed_scrapes = 2;
  Options options;
  EXPECT_FALSE(nlohmann::json::parse(ToJson(options, "m", run, {Summarize(run, {}), {}, {}, {}})).contains("metrics"));
  options.metrics_url = "http://a:1/metrics";
  const auto metrics = nlohmann::json::parse(ToJson(options, "m", run, {Summarize(run, {}), {}, {}, {}})).at("metrics");
  EXPECT_EQ(metrics.dump(), R"({"failed_scrapes":2,"time_s":[0.0,0.25],"vllm:kv_cache_usage_perc":[0.5,1.0],)"
                            R"("vllm:num_requests_running":[3.0,null]})");
}

TEST(Report, OneLinePerRequest) {
  const std::string lines = ToJsonLines(MeasurementOfTwo());
  const size_t end = lines.find('\n');
  const auto first = nlohmann::json::parse(lines.substr(0, end));
  const auto second = nlohmann::json::parse(lines.substr(end + 1));
  EXPECT_EQ(first.at("ttft_ms"), 40);
  EXPECT_EQ(first.at("outcome"), "completed");
  EXPECT_EQ(second.at("scheduled_ms"), 7);
  EXPECT_EQ(second.at("error"), "no\nluck");
  EXPECT_FALSE(second.contains("ttft_ms"));
}

TEST(Report, AnErrorThatIsNoTextIsStillReported) {
  Measurement run = MeasurementOfTwo();
  run.records[1].error = "\xFF!";
  EXPECT_TRUE(nlohmann::json::accept(ToJson(Options(), "m", run, {Summarize(run, {}), {}, {}, {}})));
  EXPECT_THAT(ToJsonLines(run), testing::HasSubstr("\xEF\xBF\xBD!"));
}

TEST(Report, AFolderThatIsNotThereIsAnError) { EXPECT_FALSE(WriteText("/no/such/folder/file", "x").ok()); }

}  // namespace
}  // namespace nibble::loadtest
