// What the text-driven cases cannot say.
#include "scheduler/scheduler.h"

#include <vector>

#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/scheduler/harness.h"

namespace nibble::sched {
namespace {

TEST(Scheduler, ChoicesDrawFromDifferentSeedsAndTheFirstFromTheRequests) {
  EXPECT_EQ(ChoiceSeed(42, 0), 42u);
  EXPECT_NE(ChoiceSeed(42, 1), ChoiceSeed(42, 2));
  EXPECT_NE(ChoiceSeed(42, 1), ChoiceSeed(43, 1));
  EXPECT_EQ(ChoiceSeed(0, 1), 0xe220a8397b1dcdafu);  // the first output of SplitMix64 from 0
}

// The first token that the request draws without stop ids.
int32_t FirstToken(const Request& request) { return SoloRun(request, 0, kSmallLimits.vocab_size).tokens[0]; }

TEST(Scheduler, AStopIdEndsTheAnswerAndIsNotPartOfIt) {
  for (const bool end : {false, true}) {
    Harness harness;
    Request request = MakeRequest({.id = "x", .prompt = 10, .max_tokens = 5});
    const int32_t first = FirstToken(request);
    (end ? request.stopping.end_ids : request.stopping.stop_token_ids) = {first};
    ASSERT_THAT(harness.SubmitRequest(request), IsOk());
    harness.Drain();
    EXPECT_EQ(harness.sink("x").finish().reason, FinishReason::kStop);
    EXPECT_EQ(harness.sink("x").finish().stop_token_id, first);
    EXPECT_TRUE(harness.sink("x").tokens().empty());
    EXPECT_EQ(harness.sink("x").finish().usage.first_token_time, 0);
  }
}

TEST(Scheduler, StopIdsAreBannedBelowMinTokens) {
  Harness harness;
  Request request = MakeRequest({.id = "x", .prompt = 10, .max_tokens = 30});
  for (int32_t id = 0; id < 32; ++id) request.stopping.stop_token_ids.push_back(id);
  request.stopping.min_tokens = 20;
  ASSERT_THAT(harness.SubmitRequest(request), IsOk());
  harness.Drain();
  EXPECT_GE(harness.sink("x").tokens().size(), 20u);
  EXPECT_EQ(harness.sink("x").finish().reason, FinishReason::kStop);
}

TEST(Scheduler, ASinkEndsItsChoice) {
  Harness harness;
  ASSERT_THAT(harness.Submit({.id = "x", .prompt = 10, .max_tokens = 30}), IsOk());
  harness.Step();
  harness.sink("x").AnswerNext(TokenSink::Verdict::kStop);
  harness.Drain();
  EXPECT_EQ(harness.sink("x").tokens().size(), 2u);
  EXPECT_EQ(harness.sink("x").finish().reason, FinishReason::kStop);
  EXPECT_EQ(harness.sink("x").finish().stop_token_id, -1);
}

TEST(Scheduler, UsageTellsTimesAndTokens) {
  SchedulerOptions options = SmallOptions();
  options.max_sequences = 1;
  Harness harness(options);
  ASSERT_THAT(harness.Submit({.id = "first", .prompt = 100, .text = "same", .max_tokens = 9}), IsOk());
  ASSERT_THAT(harness.Submit({.id = "x", .prompt = 110, .text = "same", .max_tokens = 4}), IsOk());
  harness.Drain();
  const Usage& usage = harness.sink("x").finish().usage;
  EXPECT_EQ(usage.prompt_tokens, 110);
  EXPECT_EQ(usage.cached_tokens, 96);
  EXPECT_EQ(usage.generated_tokens, 4);
  EXPECT_EQ(usage.queue_time, 10);  // 2 steps of prefill and 8 of decode before
  EXPECT_EQ(usage.first_token_time, 10);
}

TEST(Scheduler, TenantsAndAdaptersNeverShareAPage) {
  Harness harness;
  Request request = MakeRequest({.id = "x", .tenant = "a", .prompt = 100, .max_tokens = 1});
  const auto run = [&](const std::string& tenant, const std::string& adapter) {
    request.tenant = tenant;
    request.adapter_id = adapter;
    EXPECT_THAT(harness.SubmitRequest(request), IsOk());
    harness.Drain();
    return harness.sink("x", tenant).finish().usage.cached_tokens;
  };
  EXPECT_EQ(run("a", ""), 0);
  EXPECT_EQ(run("b", ""), 0);
  EXPECT_EQ(run("a", "b"), 0);
  EXPECT_EQ(run("ab", ""), 0);
  EXPECT_EQ(run("a", ""), 96);
  EXPECT_EQ(run("a", "b"), 96);
}

TEST(Scheduler, ResumingPausesDoNotExceedTheRunningLimit) {
  SchedulerOptions options = SmallOptions();
  options.max_sequences = 2;
  Harness harness(options);
  for (const char* id : {"a", "b", "c", "d"}) {
    ASSERT_THAT(harness.Submit({.id = id, .prompt = 4, .max_tokens = 6}), IsOk());
    harness.sink(id).AnswerNext(TokenSink::Verdict::kPause);
    harness.Step();
  }
  for (const char* id : {"a", "b", "c", "d"}) harness.Resume(id);
  EXPECT_EQ(harness.Step(), "a:1 b:1");
  harness.Drain();
  for (const char* id : {"a", "b", "c", "d"}) EXPECT_EQ(harness.sink(id).tokens().size(), 6u);
}

}  // namespace
}  // namespace nibble::sched
