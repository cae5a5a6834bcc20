// Rows of the robustness table that the scheduler answers for. The harness checks invariants after every step and
// compares every answer, the neighbours' included, with the undisturbed run.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/scheduler.h"
#include "tests/base/status_matchers.h"
#include "tests/scheduler/harness.h"

namespace nibble::sched {
namespace {

using testing::_;

Limits Pages(int64_t pages) {
  Limits limits = kSmallLimits;
  limits.cache.num_pages = pages;
  return limits;
}

SequenceView ViewOf(Harness& harness, const std::string& id) {
  for (const SequenceView& view : harness.scheduler().Sequences()) {
    if (view.id == id) return view;
  }
  return {};
}

TEST(Rows, Row15_TheLargestRequestThatFitsThePoolRunsBesideOthers) {
  Harness harness(SmallOptions(), Pages(5));
  ASSERT_THAT(harness.Submit({.id = "small", .prompt = 60, .max_tokens = 30}), IsOk());
  ASSERT_THAT(harness.Submit({.id = "large", .prompt = 100, .max_tokens = 60}), IsOk());
  EXPECT_THAT(harness.Submit({.id = "larger", .prompt = 100, .max_tokens = 61}),
              StatusIs(absl::StatusCode::kInvalidArgument, testing::StartsWith("max_tokens")));
  harness.Drain();
  EXPECT_EQ(harness.sink("small").finish().reason, FinishReason::kLength);
  EXPECT_EQ(harness.sink("large").finish().reason, FinishReason::kLength);
}

// Brings request `id` into a state of row 25. A neighbour "n" is there throughout.
struct CancelState {
  std::string name;
  void (*reach)(Harness& harness, const std::string& id);
};

void SubmitTo(Harness& harness, const std::string& id, int64_t prompt, int32_t max_tokens, int32_t priority = 0) {
  ASSERT_THAT(harness.Submit({.id = id, .prompt = prompt, .max_tokens = max_tokens, .priority = priority}), IsOk());
}

void Queued(Harness& harness, const std::string& id) {
  SubmitTo(harness, id, 40, 5);
  EXPECT_EQ(ViewOf(harness, id).state, SequenceState::kWaiting);
}

void MidPrefill(Harness& harness, const std::string& id) {
  SubmitTo(harness, id, 150, 5, 1);
  harness.Step();
  EXPECT_GT(ViewOf(harness, id).computed, 0);
  EXPECT_LT(ViewOf(harness, id).computed, 150);
}

void Decoding(Harness& harness, const std::string& id) {
  SubmitTo(harness, id, 40, 9, 1);
  while (ViewOf(harness, id).tokens < 44) harness.Step();
}

void Preempted(Harness& harness, const std::string& id) {
  SubmitTo(harness, id, 150, 20);
  while (ViewOf(harness, id).tokens < 153) harness.Step();
  SubmitTo(harness, id + "-high", 150, 1, 1);
  harness.Step();
  EXPECT_TRUE(ViewOf(harness, id).preempted);
}

void Paused(Harness& harness, const std::string& id) {
  SubmitTo(harness, id, 40, 9, 1);
  harness.sink(id).AnswerNext(TokenSink::Verdict::kPause);
  while (!ViewOf(harness, id).paused) harness.Step();
  EXPECT_GT(ViewOf(harness, id).pages, 0);
}

void AtLastToken(Harness& harness, const std::string& id) {
  SubmitTo(harness, id, 40, 4, 1);
  while (ViewOf(harness, id).tokens < 43) harness.Step();
}

void BeforeAdmission(Harness& harness, const std::string& id) {
  harness.Cancel(id);  // not there yet: nothing to cancel
  EXPECT_EQ(harness.counters().cancelled[0], 0);
  SubmitTo(harness, id, 40, 5);
}

class CancelIn : public testing::TestWithParam<CancelState> {};

TEST_P(CancelIn, Row25_FreesThePagesAtOnceAndIsCountedOnce) {
  Harness harness(SmallOptions(), Pages(10));
  SubmitTo(harness, "n", 50, 60);
  GetParam().reach(harness, "x");
  const int64_t held = ViewOf(harness, "n").pages + ViewOf(harness, "x-high").pages;
  harness.Cancel("x");
  harness.Cancel("x");
  EXPECT_EQ(harness.sink("x").num_finished(), 1);
  EXPECT_EQ(harness.sink("x").finish().reason, FinishReason::kCancelled);
  EXPECT_EQ(harness.scheduler().cache().stats().held, held);
  EXPECT_EQ(harness.counters().cancelled[static_cast<size_t>(CancelCause::kClient)], 1);
  EXPECT_EQ(harness.counters().finished[static_cast<size_t>(FinishReason::kCancelled)], 1);
  harness.Drain();
  harness.Cancel("x");
  EXPECT_EQ(harness.counters().cancelled[static_cast<size_t>(CancelCause::kClient)], 1);
  EXPECT_EQ(harness.sink("n").finish().reason, FinishReason::kLength);
  EXPECT_EQ(harness.scheduler().cache().stats().held, 0);
}

const std::vector<CancelState> kCancelStates = {{"queued", Queued},
                                                {"mid_prefill", MidPrefill},
                                                {"decoding", Decoding},
                                                {"preempted", Preempted},
                                                {"paused", Paused},
                                                {"at_last_token", AtLastToken},
                                                {"before_admission", BeforeAdmission}};

INSTANTIATE_TEST_SUITE_P(Rows, CancelIn, testing::ValuesIn(kCancelStates),
                         [](const testing::TestParamInfo<CancelState>& info) { return info.param.name; });

TEST(Rows, Row25_TenThousandCancelsInAllStatesLeaveNoPage) {
  Harness harness(SmallOptions(), Pages(10));
  int64_t cancels = 0;
  while (cancels < 10'000) {
    for (const CancelState& state : kCancelStates) {
      if (state.reach == BeforeAdmission) continue;  // it looks at the counters
      const std::string id = absl::StrCat("x", cancels % 50);
      state.reach(harness, id);
      harness.Cancel(id);
      harness.Cancel(id + "-high");
      ++cancels;
    }
  }
  EXPECT_GE(harness.counters().finished[static_cast<size_t>(FinishReason::kCancelled)], cancels);
  harness.scheduler().FlushIndex();
  EXPECT_EQ(harness.counters().pages_free, harness.counters().pages_total);
}

TEST(Rows, Row26_WhatCannotStartBeforeItsDeadlineIsNeverPrefilled) {
  SchedulerOptions options = SmallOptions();
  options.max_sequences = 1;
  Harness harness(options);
  ASSERT_THAT(harness.Submit({.id = "past", .prompt = 10, .max_tokens = 5, .deadline = 0}), IsOk());
  ASSERT_THAT(harness.Submit({.id = "first", .prompt = 10, .max_tokens = 50}), IsOk());
  ASSERT_THAT(harness.Submit({.id = "queued", .prompt = 10, .max_tokens = 5, .deadline = 30}), IsOk());
  harness.Drain();
  for (const char* id : {"past", "queued"}) {
    EXPECT_EQ(harness.sink(id).finish().reason, FinishReason::kDeadline) << id;
    EXPECT_TRUE(harness.sink(id).tokens().empty());
  }
  EXPECT_EQ(harness.counters().step_tokens, 10 + 49);  // those of "first"
  EXPECT_EQ(harness.counters().cancelled[static_cast<size_t>(CancelCause::kDeadline)], 2);
}

TEST(Rows, Row26_ADeadlineEndsWhatRunsWhatIsPausedAndWhatIsPreempted) {
  Harness harness(SmallOptions(), Pages(10));
  ASSERT_THAT(harness.Submit({.id = "runs", .prompt = 10, .max_tokens = 300, .deadline = 200}), IsOk());
  ASSERT_THAT(harness.Submit({.id = "paused", .prompt = 10, .max_tokens = 50, .deadline = 20}), IsOk());
  harness.sink("paused").AnswerNext(TokenSink::Verdict::kPause);
  for (int i = 0; i < 21; ++i) harness.Step();
  EXPECT_EQ(harness.sink("paused").finish().reason, FinishReason::kDeadline);
  ASSERT_THAT(harness.Submit({.id = "high", .prompt = 280, .max_tokens = 40, .priority = 1}), IsOk());
  harness.Step();
  EXPECT_TRUE(ViewOf(harness, "runs").preempted);
  harness.Advance(200);
  harness.Step();
  EXPECT_EQ(harness.sink("runs").finish().reason, FinishReason::kDeadline);
  harness.Drain();
  EXPECT_EQ(harness.scheduler().cache().stats().held, 0);
}

TEST(Rows, Row27_IdsAreUniqueWithinATenantAndPrivateToIt) {
  Harness harness;
  ASSERT_THAT(harness.Submit({.id = "x", .tenant = "t", .prompt = 10, .max_tokens = 5}), IsOk());
  EXPECT_THAT(harness.Submit({.id = "x", .tenant = "t", .prompt = 3, .max_tokens = 5}),
              StatusIs(absl::StatusCode::kAlreadyExists, _));
  ASSERT_THAT(harness.Submit({.id = "x", .tenant = "u", .prompt = 20, .max_tokens = 5}), IsOk());
  harness.Step();
  EXPECT_THAT(harness.Submit({.id = "x", .tenant = "t"}), StatusIs(absl::StatusCode::kAlreadyExists, _));
  harness.Cancel("x", CancelCause::kClient, "t");
  harness.Cancel("x", CancelCause::kClient, "v");
  EXPECT_FALSE(harness.sink("x", "u").done());
  ASSERT_THAT(harness.Submit({.id = "x", .tenant = "t", .prompt = 10, .max_tokens = 2}), IsOk());
  harness.Drain();
  EXPECT_EQ(harness.sink("x", "u").finish().reason, FinishReason::kLength);
  EXPECT_EQ(harness.sink("x", "t").finish().reason, FinishReason::kLength);
  EXPECT_THAT(harness.Submit({.id = "x", .tenant = "t"}), IsOk());  // ended ids are free again
}

TEST(Rows, Row28_AFullQueueRefusesWithAHintAtTheLimitAndNotBefore) {
  SchedulerOptions options = SmallOptions();
  options.max_queue = 10;
  options.max_queue_per_tenant = 4;
  Harness harness(options);
  for (int i = 0; i < 10; ++i) {
    ASSERT_THAT(harness.Submit({.id = absl::StrCat(i), .tenant = absl::StrCat("t", i % 3)}), IsOk());
  }
  const absl::Status refused = harness.Submit({.id = "x", .tenant = "t5"});
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted, _));
  EXPECT_EQ(RetryAfter(refused), options.retry_after);
  EXPECT_EQ(RetryAfter(absl::ResourceExhaustedError("another's")), std::nullopt);
  harness.Step();
  EXPECT_THAT(harness.Submit({.id = "x", .tenant = "t5"}), IsOk());
}

// Requests of 40 + 8 tokens offered at `per_step`; how many finish in 2,000 steps.
int64_t Goodput(double per_step) {
  SchedulerOptions options = SmallOptions();
  options.max_queue = 32;
  Harness harness(options);
  double offered = 0;
  for (int step = 0; step < 2000; ++step) {
    for (offered += per_step; offered >= 1; offered -= 1) {
      const absl::Status status =
          harness.Submit({.id = absl::StrCat(step, "/", offered), .prompt = 40, .max_tokens = 8});
      EXPECT_TRUE(status.ok() || RetryAfter(status).has_value());
    }
    harness.Step();
  }
  return harness.counters().finished[static_cast<size_t>(FinishReason::kLength)];
}

TEST(Rows, Row28_GoodputHoldsUnderFiveTimesTheLoad) {
  const int64_t peak = std::max(Goodput(0.8), Goodput(1.2));
  EXPECT_GT(peak, 1000);
  EXPECT_GE(Goodput(5 * 1.2), peak * 9 / 10);
}

TEST(Rows, Row29_GrowingSequencesArePreemptedAndAllFinishUndisturbed) {
  Harness harness(SmallOptions(), Pages(12));
  for (int i = 0; i < 8; ++i) {
    ASSERT_THAT(harness.Submit({.id = absl::StrCat(i), .prompt = 30 + i, .max_tokens = 200, .num_choices = 1 + i % 2}),
                IsOk());
  }
  harness.Drain();
  for (int i = 0; i < 8; ++i) EXPECT_EQ(harness.sink(absl::StrCat(i)).finish().reason, FinishReason::kLength) << i;
  EXPECT_GT(harness.counters().preemptions, 5);
  EXPECT_GT(harness.counters().recomputed_tokens, 0);
  EXPECT_EQ(harness.scheduler().cache().stats().held, 0);
}

TEST(Rows, Row29_ThePromptLogprobsOfAPreemptedRequestAreToldOnce) {
  SchedulerOptions options = SmallOptions();
  options.prompt_logprob_rows = 16;
  Harness harness(options, Pages(10));
  ASSERT_THAT(harness.Submit({.id = "x", .prompt = 150, .max_tokens = 5, .prompt_logprobs = 3}), IsOk());
  for (int i = 0; i < 5; ++i) harness.Step();
  ASSERT_THAT(harness.Submit({.id = "high", .prompt = 200, .max_tokens = 30, .priority = 1}), IsOk());
  harness.Step();
  ASSERT_TRUE(ViewOf(harness, "x").preempted);
  harness.Drain();
  EXPECT_EQ(harness.sink("x").finish().reason, FinishReason::kLength);
  EXPECT_EQ(harness.sink("x").num_prompt_logprobs(), 149);
  EXPECT_EQ(harness.engine().targets(), 149);
}

TEST(Rows, Row30_AFaultedRowEndsItsSequenceAlone) {
  Harness harness;
  ASSERT_THAT(harness.Submit({.id = "mate", .prompt = 20, .max_tokens = 20}), IsOk());
  Request bad = MakeRequest({.id = "bad", .prompt = 20, .max_tokens = 20});
  bad.prompt[7] = kPoison;
  ASSERT_THAT(harness.SubmitRequest(bad), IsOk());
  harness.Drain();
  EXPECT_EQ(harness.sink("bad").finish().reason, FinishReason::kError);
  EXPECT_EQ(harness.sink("mate").finish().reason, FinishReason::kLength);
  EXPECT_EQ(harness.counters().finished[static_cast<size_t>(FinishReason::kError)], 1);
}

// A page that a faulted step wrote may hold anything: it must not be found by another.
TEST(Rows, Row30_TheFaultedStepsPagesAreNotShared) {
  Harness harness;
  Request bad = MakeRequest({.id = "bad", .prompt = 60, .max_tokens = 20});
  bad.prompt[7] = kPoison;
  ASSERT_THAT(harness.SubmitRequest(bad), IsOk());
  harness.Drain();
  EXPECT_EQ(harness.counters().pages_cached, 0);
}

}  // namespace
}  // namespace nibble::sched
