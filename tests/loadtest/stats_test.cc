#include "loadtest/stats.h"

#include <cmath>

#include "gmock/gmock.h"

namespace nibble::loadtest {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;

// An answer of one token per chunk; times in milliseconds from an arbitrary start.
Record Answer(int scheduled, const std::vector<int>& chunks) {
  const Clock::time_point start{};
  Record record;
  record.scheduled = start + milliseconds(scheduled);
  record.sent = record.scheduled + milliseconds(5);
  for (const int chunk : chunks) record.chunks.push_back(start + milliseconds(chunk));
  record.prompt_tokens = 10;
  record.output_tokens = static_cast<int64_t>(chunks.size());
  record.outcome = Outcome::kCompleted;
  return record;
}

Measurement RunOf(std::vector<Record> records, double seconds) {
  Measurement run;
  run.records = std::move(records);
  run.seconds = seconds;
  return run;
}

TEST(Stats, OneToHundredInClosedForm) {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  const Distribution d = Describe(values);
  EXPECT_DOUBLE_EQ(d.mean, 50.5);
  EXPECT_DOUBLE_EQ(d.std, std::sqrt((100.0 * 100 - 1) / 12));
  EXPECT_DOUBLE_EQ(d.p50, 50.5);
  EXPECT_DOUBLE_EQ(d.p90, 90.1);
  EXPECT_DOUBLE_EQ(d.p95, 95.05);
  EXPECT_DOUBLE_EQ(d.p99, 99.01);
  EXPECT_DOUBLE_EQ(d.p999, 99.901);
}

TEST(Stats, OneValueIsEveryPercentileAndNoneAreZero) {
  EXPECT_EQ(Describe({3}).p99, 3);
  EXPECT_EQ(Describe({3}).std, 0);
  EXPECT_EQ(Describe({}).mean, 0);
}

TEST(Stats, LatenciesRunFromTheScheduledTime) {
  const Latency latency = LatencyOf(Answer(100, {150, 170, 200}));
  EXPECT_DOUBLE_EQ(latency.ttft_ms, 50);
  EXPECT_DOUBLE_EQ(latency.e2el_ms, 100);
  EXPECT_THAT(latency.itl_ms, ElementsAre(20, 30));
}

TEST(Stats, TpotLeavesTheFirstTokenOut) {
  // A slow first token must not show; an answer of one token has no TPOT at all.
  const Summary summary = Summarize(RunOf({Answer(0, {1000, 1010, 1030}), Answer(0, {500})}, 2), {});
  EXPECT_DOUBLE_EQ(summary.tpot_ms.mean, 15);
  EXPECT_DOUBLE_EQ(summary.ttft_ms.mean, 750);
}

TEST(Stats, SeveralTokensInOneChunkCountAsTokens) {
  Record record = Answer(0, {100, 200});
  record.output_tokens = 5;
  const Summary summary = Summarize(RunOf({record}, 1), {});
  EXPECT_DOUBLE_EQ(summary.tpot_ms.mean, 25);
  EXPECT_DOUBLE_EQ(summary.itl_ms.mean, 100);
}

TEST(Stats, ThroughputCountsCompletedAnswersOnly) {
  Record failed = Answer(0, {1, 2, 3});
  failed.outcome = Outcome::kFailed;
  failed.status = "RESOURCE_EXHAUSTED";
  failed.error = "RESOURCE_EXHAUSTED: request 7 of 7";
  Record cancelled = Answer(0, {1});
  cancelled.outcome = Outcome::kCancelled;
  const Summary summary = Summarize(RunOf({Answer(0, {10, 20}), failed, cancelled, Answer(0, {10, 20, 30})}, 2), {});
  EXPECT_EQ(summary.completed, 2);
  EXPECT_EQ(summary.failed, 1);
  EXPECT_THAT(summary.failures, ElementsAre(std::pair("RESOURCE_EXHAUSTED", 1)));
  EXPECT_EQ(summary.cancelled, 1);
  EXPECT_EQ(summary.input_tokens, 20);
  EXPECT_EQ(summary.output_tokens, 5);
  EXPECT_DOUBLE_EQ(summary.requests_per_s, 1);
  EXPECT_DOUBLE_EQ(summary.output_tokens_per_s, 2.5);
  EXPECT_DOUBLE_EQ(summary.total_tokens_per_s, 12.5);
}

TEST(Stats, GoodputCountsWholeAnswersWithinEveryLimit) {
  Record failed = Answer(0, {10, 20});
  failed.outcome = Outcome::kFailed;
  const Measurement run = RunOf({Answer(0, {100, 150}), Answer(0, {101, 150}), Answer(0, {100, 151}), failed}, 2);
  const Summary summary = Summarize(run, Slo{.ttft_ms = 100, .tpot_ms = 50});
  EXPECT_DOUBLE_EQ(*summary.goodput_per_s, 0.5);
  EXPECT_DOUBLE_EQ(summary.share_met, 0.25);
  EXPECT_FALSE(Summarize(run, {}).goodput_per_s.has_value());
}

TEST(Stats, WhatTheClientCutShortNeitherMeetsNorMisses) {
  Record cancelled = Answer(0, {900}), stalled = Answer(0, {900});
  cancelled.outcome = Outcome::kCancelled;
  stalled.outcome = Outcome::kStalled;
  const Summary summary =
      Summarize(RunOf({Answer(0, {100}), Answer(0, {200}), cancelled, stalled}, 2), Slo{.ttft_ms = 150});
  EXPECT_DOUBLE_EQ(summary.share_met, 0.5);
  EXPECT_EQ(summary.cancelled, 1);
  EXPECT_EQ(summary.stalled, 1);
}

TEST(Stats, QueueingIsWhatTheServerSaysOfThoseItSaysItOf) {
  Record waited = Answer(0, {10});
  waited.queue_ms = 4;
  EXPECT_DOUBLE_EQ(Summarize(RunOf({waited, Answer(0, {10})}, 1), {}).queue_ms->mean, 4);
  EXPECT_FALSE(Summarize(RunOf({Answer(0, {10})}, 1), {}).queue_ms.has_value());
}

TEST(Stats, EachTenantHasItsOwnFigures) {
  Record quiet = Answer(0, {30, 40}), loud = Answer(0, {50, 60}), failed = Answer(0, {});
  quiet.tenant = "quiet";
  loud.tenant = failed.tenant = "loud";
  failed.outcome = Outcome::kFailed;
  const auto tenants = SummarizeTenants(RunOf({quiet, loud, failed, loud}, 2), {});
  ASSERT_EQ(tenants.size(), 2u);
  EXPECT_EQ(tenants.at("loud").completed, 2);
  EXPECT_EQ(tenants.at("loud").failed, 1);
  EXPECT_DOUBLE_EQ(tenants.at("loud").output_tokens_per_s, 2);
  EXPECT_EQ(tenants.at("quiet").ttft_ms.p50, 30);
  EXPECT_TRUE(SummarizeTenants(RunOf({Answer(0, {1})}, 1), {}).empty());
}

// Answers of two tokens, the first 100 ms after the schedule and the last 300 ms after it.
TEST(Stats, AWindowTakesLatenciesBySchedulesAndThroughputByArrivals) {
  const Clock::time_point start{};
  Record failed = Answer(600, {});
  failed.outcome = Outcome::kFailed;
  failed.status = "UNAVAILABLE";
  const Measurement run = RunOf(
      {Answer(0, {100, 300}), Answer(400, {500, 700}), Answer(850, {950, 1150}), Answer(1000, {1001, 1002}), failed},
      2);
  const Window window{start + milliseconds(200), start + milliseconds(1000)};
  const Summary summary = SummarizeWindow(run, Slo{.ttft_ms = 99}, window);
  EXPECT_EQ(summary.completed, 2);
  EXPECT_EQ(summary.failed, 1);
  EXPECT_DOUBLE_EQ(summary.ttft_ms.mean, 100);
  EXPECT_EQ(*summary.goodput_per_s, 0);
  EXPECT_DOUBLE_EQ(summary.duration_s, 0.8);
  EXPECT_DOUBLE_EQ(summary.requests_per_s, 2 / 0.8);                 // ended at 300 and 700
  EXPECT_DOUBLE_EQ(summary.output_tokens_per_s, 4 / 0.8);            // at 300, 500, 700 and 950
  EXPECT_DOUBLE_EQ(summary.total_tokens_per_s, (4 + 2 * 10) / 0.8);  // prompts done at 500 and 950
}

}  // namespace
}  // namespace nibble::loadtest
