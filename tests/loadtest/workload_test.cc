#include "loadtest/workload.h"

#include <algorithm>
#include <cmath>

#include "gtest/gtest.h"

namespace nibble::loadtest {
namespace {

WorkloadOptions Base() {
  return {.requests = 200,
          .input_tokens = Lengths::Exactly(16),
          .output_tokens = Lengths::Exactly(8),
          .cancel_rate = 0.25,
          .vocab_size = 1600,
          .seed = 3};
}

TEST(Workload, PromptsHaveTheLengthAskedAndNoSpecialTokens) {
  for (const Request& request : RandomRequests(Base())) {
    ASSERT_EQ(request.prompt.size(), 16u);
    EXPECT_EQ(request.output_tokens, 8);
    for (const int32_t id : request.prompt) {
      EXPECT_GE(id, 100);
      EXPECT_LT(id, 1500);
    }
  }
}

TEST(Workload, PromptsDifferFromTheFirstTokens) {
  const std::vector<Request> requests = RandomRequests(Base());
  for (size_t i = 1; i < requests.size(); ++i) EXPECT_NE(requests[i].prompt, requests[i - 1].prompt);
}

TEST(Workload, CancelRateIsAShareOfRequests) {
  int cancelled = 0;
  for (const Request& request : RandomRequests(Base())) {
    EXPECT_LT(request.cancel_after, request.output_tokens);
    cancelled += request.cancel_after >= 0;
  }
  EXPECT_NEAR(cancelled, 50, 25);
  WorkloadOptions none = Base();
  none.cancel_rate = 0;
  for (const Request& request : RandomRequests(none)) EXPECT_EQ(request.cancel_after, -1);
}

TEST(Workload, PromptsOfAGroupShareItsPrefixAndNoMore) {
  const std::vector<Request> requests = SharedPrefixRequests(Base(), {.groups = 3, .tokens = 10});
  const auto prefix = [&requests](int i) {
    return std::vector<int32_t>(requests[i].prompt.begin(), requests[i].prompt.begin() + 10);
  };
  for (const Request& request : requests) EXPECT_EQ(request.prompt.size(), 26u);
  EXPECT_EQ(prefix(0), prefix(3));
  EXPECT_EQ(prefix(1), prefix(4));
  EXPECT_NE(prefix(0), prefix(1));
  EXPECT_NE(requests[0].prompt[10], requests[3].prompt[10]);
}

TEST(Workload, ATurnBeginsWithTheConversationBeforeIt) {
  WorkloadOptions options = Base();
  options.requests = 10;
  const std::vector<Request> requests = ChatRequests(options, {Lengths::Exactly(4), 0.5});
  ASSERT_EQ(requests.size(), 10u);
  for (size_t i = 0; i < requests.size(); ++i) {
    const size_t turn = i % 4;
    EXPECT_EQ(requests[i].follows, turn == 0 ? -1 : static_cast<int64_t>(i) - 1);
    EXPECT_EQ(requests[i].prompt.size(), 16 + turn * (16 + 8));  // 16 of its own, 8 of each answer
    if (turn == 0) continue;
    const std::vector<int32_t>& before = requests[i - 1].prompt;
    EXPECT_TRUE(std::equal(before.begin(), before.end(), requests[i].prompt.begin()));
  }
  EXPECT_NE(requests[0].prompt, requests[4].prompt);
}

TEST(Workload, ThinkTimesAreExponential) {
  WorkloadOptions options = Base();
  options.requests = 8000;
  double sum_s = 0, beyond = 0;
  for (const Request& request : ChatRequests(options, {Lengths::Exactly(2), 2})) {
    if (request.follows < 0) {
      EXPECT_EQ(request.think_time.count(), 0);
      continue;
    }
    const double seconds = std::chrono::duration<double>(request.think_time).count();
    sum_s += seconds;
    beyond += seconds > 4;
  }
  EXPECT_NEAR(sum_s / 4000, 2, 0.1);
  EXPECT_NEAR(beyond / 4000, std::exp(-2), 0.02);
}

TEST(Workload, BlocksOfATraceWithOneIdAreTheSameTokens) {
  const std::vector<TraceLine> trace = {{0, 1500, 7, {5, 6, 7}}, {1, 1300, 8, {5, 6, 8}}, {2, 600, 9, {}}};
  WorkloadOptions options = Base();
  options.requests = 3;
  const std::vector<Request> requests = TraceRequests(options, trace);
  const auto& a = requests[0].prompt;
  const auto& b = requests[1].prompt;
  ASSERT_EQ(a.size(), 1500u);
  ASSERT_EQ(b.size(), 1300u);
  EXPECT_EQ(requests[2].prompt.size(), 600u);
  EXPECT_EQ(requests[1].output_tokens, 8);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 1024, b.begin()));
  EXPECT_NE(std::vector<int32_t>(a.begin() + 1024, a.begin() + 1040),
            std::vector<int32_t>(b.begin() + 1024, b.begin() + 1040));
}

TEST(Workload, SeedDecides) {
  WorkloadOptions other = Base();
  other.seed = 4;
  EXPECT_EQ(RandomRequests(Base())[7].prompt, RandomRequests(Base())[7].prompt);
  EXPECT_NE(RandomRequests(Base())[7].prompt, RandomRequests(other)[7].prompt);
}

}  // namespace
}  // namespace nibble::loadtest
