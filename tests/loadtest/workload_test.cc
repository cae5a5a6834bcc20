#include "loadtest/workload.h"

#include "gtest/gtest.h"

namespace nibble::loadtest {
namespace {

RandomWorkload Base() {
  return {.requests = 200, .input_tokens = 16, .output_tokens = 8, .cancel_rate = 0.25, .vocab_size = 1600, .seed = 3};
}

TEST(Workload, PromptsHaveTheLengthAskedAndNoSpecialTokens) {
  for (const Request& request : MakeRequests(Base())) {
    ASSERT_EQ(request.prompt.size(), 16u);
    EXPECT_EQ(request.output_tokens, 8);
    for (const int32_t id : request.prompt) {
      EXPECT_GE(id, 100);
      EXPECT_LT(id, 1500);
    }
  }
}

TEST(Workload, PromptsDifferFromTheFirstTokens) {
  const std::vector<Request> requests = MakeRequests(Base());
  for (size_t i = 1; i < requests.size(); ++i) EXPECT_NE(requests[i].prompt, requests[i - 1].prompt);
}

TEST(Workload, CancelRateIsAShareOfRequests) {
  int cancelled = 0;
  for (const Request& request : MakeRequests(Base())) {
    EXPECT_LT(request.cancel_after, request.output_tokens);
    cancelled += request.cancel_after >= 0;
  }
  EXPECT_NEAR(cancelled, 50, 25);
  RandomWorkload none = Base();
  none.cancel_rate = 0;
  for (const Request& request : MakeRequests(none)) EXPECT_EQ(request.cancel_after, -1);
}

TEST(Workload, SeedDecides) {
  RandomWorkload other = Base();
  other.seed = 4;
  EXPECT_EQ(MakeRequests(Base())[7].prompt, MakeRequests(Base())[7].prompt);
  EXPECT_NE(MakeRequests(Base())[7].prompt, MakeRequests(other)[7].prompt);
}

}  // namespace
}  // namespace nibble::loadtest
