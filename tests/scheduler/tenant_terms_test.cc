// What a tenant's terms allow: rates, running sequences, pages, waiting requests, and with whom it shares prefixes.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/admission.h"
#include "scheduler/rate_limit.h"
#include "tests/base/status_matchers.h"
#include "tests/scheduler/harness.h"

namespace nibble::sched {
namespace {

using testing::HasSubstr;

constexpr Nanos kSecond = 1'000'000'000;
constexpr Limits kRoomyLimits = {
    .vocab_size = 64, .context_length = 512, .cache = {64}, .max_step_tokens = 64, .max_sequences = 8};

TEST(RateLimit, AllowsAMinutesWorthAtOnceAndThenThePace) {
  for (const int64_t per_minute : {1, 7, 60, 1000}) {
    RateLimit limit;
    for (int64_t i = 0; i < per_minute; ++i) {
      ASSERT_EQ(limit.Wait(per_minute, 5), 0) << per_minute << " " << i;
      limit.Take(1, per_minute, 5);
    }
    const Nanos wait = limit.Wait(per_minute, 5);
    EXPECT_GT(wait, 0) << per_minute;
    EXPECT_LE(wait, 60 * kSecond / per_minute);
    EXPECT_EQ(limit.Wait(per_minute, 5 + wait), 0);
    EXPECT_GT(limit.Wait(per_minute, 5 + wait - 1), 0);
  }
}

TEST(RateLimit, ADebtHasToPassAndIsBounded) {
  RateLimit limit;
  limit.Take(180, 60, 0);
  EXPECT_EQ(limit.Wait(60, 0), 121 * kSecond);
  limit.Take(kUnlimited, 60, 0);
  EXPECT_LE(limit.Wait(60, 0), 3600 * kSecond);
  EXPECT_EQ(limit.Wait(kUnlimited, 0), 0);
}

TEST(TenantTerms, RequestsPerMinuteAreRefusedWithTheTimeToWait) {
  Harness harness;
  const TenantTerms terms = {.requests_per_minute = 2};
  ASSERT_THAT(harness.Submit({.id = "a", .terms = terms}), IsOk());
  ASSERT_THAT(harness.Submit({.id = "b", .terms = terms}), IsOk());
  const absl::Status refused = harness.Submit({.id = "c", .terms = terms});
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("requests per minute")));
  EXPECT_EQ(RetryAfter(refused), 30 * kSecond);
  EXPECT_THAT(harness.Submit({.id = "c", .tenant = "u", .terms = terms}), IsOk());
  harness.Advance(30 * kSecond);
  EXPECT_THAT(harness.Submit({.id = "c", .terms = terms}), IsOk());
}

TEST(TenantTerms, TokensPerMinuteCountPromptsAndAnswers) {
  Harness harness;
  const TenantTerms terms = {.tokens_per_minute = 60};
  ASSERT_THAT(harness.Submit({.id = "a", .prompt = 50, .max_tokens = 20, .terms = terms}), IsOk());
  EXPECT_THAT(harness.scheduler().admission().CheckRoom("t", terms, 0), IsOk());
  harness.Drain();
  const absl::Status refused = harness.Submit({.id = "b", .prompt = 1, .terms = terms});
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("tokens per minute")));
  EXPECT_EQ(harness.scheduler().admission().CheckRoom("t", terms, harness.now()), refused);
  harness.Advance(*RetryAfter(refused));
  EXPECT_THAT(harness.Submit({.id = "b", .prompt = 1, .terms = terms}), IsOk());
}

TEST(TenantTerms, MaxSequencesHoldsUpTheTenantAlone) {
  Harness harness;
  for (const char* id : {"a", "b", "c"}) {
    ASSERT_THAT(harness.Submit({.id = id, .prompt = 4, .max_tokens = 3, .terms = {.max_sequences = 2}}), IsOk());
  }
  ASSERT_THAT(harness.Submit({.id = "u1", .tenant = "u", .prompt = 4, .max_tokens = 3}), IsOk());
  EXPECT_EQ(harness.Step(), "a:4 b:4 u1:4");
  EXPECT_EQ(harness.Step(), "a:1 b:1 u1:1");
  EXPECT_EQ(harness.Step(), "a:1 b:1 u1:1");
  EXPECT_EQ(harness.Step(), "c:4");
}

TEST(TenantTerms, MaxPagesBoundsWhatStartsAndWhatGrows) {
  Harness harness(SmallOptions(), kRoomyLimits);
  const TenantTerms terms = {.max_pages = 4};
  for (const char* id : {"a", "b", "c"}) {
    ASSERT_THAT(harness.Submit({.id = id, .prompt = 30, .max_tokens = 60, .terms = terms}), IsOk());
  }
  int64_t most = 0;
  while (!harness.Step().empty()) {
    int64_t pages = 0;
    for (const SequenceView& view : harness.scheduler().Sequences()) pages += view.pages;
    most = std::max(most, pages);
  }
  EXPECT_EQ(most, 4);
  EXPECT_GT(harness.counters().preemptions, 0);
  EXPECT_EQ(harness.sink("c").finish().reason, FinishReason::kLength);
}

TEST(TenantTerms, WhatNeverFitsTheShareIsRefused) {
  Harness harness(SmallOptions(), kRoomyLimits);
  const TenantTerms terms = {.max_pages = 4};
  EXPECT_THAT(harness.Submit({.id = "a", .prompt = 100, .max_tokens = 28, .terms = terms}), IsOk());
  EXPECT_THAT(harness.Submit({.id = "b", .prompt = 100, .max_tokens = 29, .terms = terms}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("share of the KV cache")));
}

TEST(TenantTerms, MaxWaitingIsTheTenantsShareOfTheQueue) {
  Harness harness;
  const TenantTerms terms = {.max_waiting = 2};
  ASSERT_THAT(harness.Submit({.id = "a", .terms = terms}), IsOk());
  ASSERT_THAT(harness.Submit({.id = "b", .terms = terms}), IsOk());
  EXPECT_THAT(harness.Submit({.id = "c", .terms = terms}),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("share of the queue")));
  EXPECT_THAT(harness.Submit({.id = "c", .tenant = "u"}), IsOk());
}

int64_t Hits(Harness& harness, const RequestSpec& spec) {
  const int64_t before = harness.counters().prefix_hits_tokens;
  EXPECT_THAT(harness.Submit(spec), IsOk());
  harness.Drain();
  return harness.counters().prefix_hits_tokens - before;
}

TEST(TenantTerms, Row37_PrefixesAreSharedWithinATenantOrAPoolAndNowhereElse) {
  Harness harness(SmallOptions(), kRoomyLimits);
  const auto ask = [&harness](const std::string& tenant, const std::string& pool) {
    return Hits(harness, {.id = "x", .tenant = tenant, .prompt = 100, .text = "story", .terms = {.pool = pool}});
  };
  EXPECT_EQ(ask("a", ""), 0);
  EXPECT_EQ(ask("a", ""), 96);  // the positive control
  EXPECT_EQ(ask("b", ""), 0);
  EXPECT_EQ(ask("c", "team"), 0);
  EXPECT_EQ(ask("d", "team"), 96);
  EXPECT_EQ(ask("d", "another"), 0);
  EXPECT_EQ(ask("e", "a"), 0);  // a pool is no tenant of that name
  EXPECT_EQ(ask("team", ""), 0);
}

// Steps until the first token of one request alone.
int64_t FirstTokenSteps(Harness& harness, const RequestSpec& spec) {
  EXPECT_THAT(harness.Submit(spec), IsOk());
  int64_t steps = 0;
  while (harness.sink(spec.id, spec.tenant).tokens().empty()) {
    harness.Step();
    ++steps;
  }
  harness.Drain();
  return steps;
}

// How well first-token times tell prompts that `victim` has asked from others, when `probe` asks them: the area under
// the ROC curve, 0.5 being a coin.
double ProbeAuc(const std::string& victim, const std::string& probe) {
  std::vector<int64_t> asked, fresh;
  for (int i = 0; i < 50; ++i) {
    Harness harness(SmallOptions(), kRoomyLimits);
    const int64_t length = 70 + 5 * i;
    const auto spec = [&](const std::string& id, const std::string& tenant, const std::string& text) {
      return RequestSpec{.id = id, .tenant = tenant, .prompt = length, .text = absl::StrCat(text, i)};
    };
    FirstTokenSteps(harness, spec("v", victim, "secret"));
    asked.push_back(FirstTokenSteps(harness, spec("p", probe, "secret")));
    fresh.push_back(FirstTokenSteps(harness, spec("q", probe, "another")));
  }
  double wins = 0.0;
  for (const int64_t a : asked) {
    for (const int64_t f : fresh) wins += a < f ? 1.0 : (a == f ? 0.5 : 0.0);
  }
  return wins / static_cast<double>(asked.size() * fresh.size());
}

TEST(TenantTerms, Row37_FirstTokenTimesTellNothingOfAnothersPrompts) {
  EXPECT_LE(ProbeAuc("victim", "prober"), 0.55);
  EXPECT_GE(ProbeAuc("same", "same"), 0.9);  // the positive control
}

TEST(TenantTerms, Row40_UsageOfAPoolTellsNothingOfHits) {
  Harness harness(SmallOptions(), kRoomyLimits);
  const RequestSpec own = {.id = "x", .tenant = "a", .prompt = 100, .text = "story"};
  RequestSpec pooled = own;
  pooled.terms.pool = "team";
  Hits(harness, own);
  Hits(harness, own);
  EXPECT_EQ(harness.sink("x", "a").finish().usage.cached_tokens, 96);
  Hits(harness, pooled);
  EXPECT_EQ(Hits(harness, pooled), 96);
  EXPECT_EQ(harness.sink("x", "a").finish().usage.cached_tokens, 0);
}

}  // namespace
}  // namespace nibble::sched
