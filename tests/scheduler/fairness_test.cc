// Who is served how much and how soon, with steps as time: what the scheduler promises competing tenants.
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/scheduler/harness.h"

namespace nibble::sched {
namespace {

constexpr Limits kRoomyLimits = {
    .vocab_size = 64, .context_length = 512, .cache = {128}, .max_step_tokens = 64, .max_sequences = 8};

// One tenant with requests of one shape, of which a few always wait.
class Backlog {
 public:
  Backlog(std::string tenant, int64_t prompt, int32_t max_tokens, double weight)
      : spec_{.tenant = std::move(tenant), .prompt = prompt, .max_tokens = max_tokens, .terms = {.weight = weight}} {}

  void Refill(Harness& harness) {
    while (next_ - ended_ < 12) {
      spec_.id = absl::StrCat(spec_.tenant, next_++);
      ASSERT_THAT(harness.Submit(spec_), IsOk());
      prompt_left_[spec_.id] = spec_.prompt;
    }
  }
  // `row` is "ID:TOKENS" of a step.
  void Count(const std::string& id, int64_t tokens, Harness& harness) {
    const auto left = prompt_left_.find(id);
    if (left == prompt_left_.end()) return;
    const int64_t of_prompt = std::min(left->second, tokens);
    left->second -= of_prompt;
    service_ += static_cast<double>(of_prompt) + (left->second == 0 ? 2.0 : 0.0);
    if (!harness.sink(id, spec_.tenant).done()) return;
    prompt_left_.erase(left);
    ++ended_;
  }
  double service() const { return service_; }

 private:
  RequestSpec spec_;
  int next_ = 0;
  int ended_ = 0;
  double service_ = 0.0;  // prompt tokens, and twice the generated ones
  std::map<std::string, int64_t> prompt_left_;
};

// The largest lead that `a`, by its weight, ever had over `b`, or `b` over `a`, while both always had work.
double LargestLead(Backlog a, double weight_a, Backlog b, double weight_b) {
  SchedulerOptions options = SmallOptions();
  options.max_sequences = 4;
  Harness harness(options, kRoomyLimits);
  double lead = 0.0;
  for (int step = 0; step < 3000; ++step) {
    a.Refill(harness);
    b.Refill(harness);
    for (const absl::string_view row : absl::StrSplit(harness.Step(), ' ')) {
      const std::vector<std::string> parts = absl::StrSplit(row, ':');
      int64_t tokens = 0;
      EXPECT_TRUE(absl::SimpleAtoi(parts[1], &tokens));
      a.Count(parts[0], tokens, harness);
      b.Count(parts[0], tokens, harness);
    }
    lead = std::max(lead, std::abs(a.service() / weight_a - b.service() / weight_b));
  }
  EXPECT_GT(std::min(a.service(), b.service()), 1000.0);
  return lead;
}

// Theorem 4.4 of the paper: 2 max(w_p L_input, w_q M), M being the tokens of a batch.
TEST(Fairness, BackloggedTenantsKeepWithinThePapersBound) {
  constexpr double kLongestPrompt = 200.0;
  constexpr double kBatchTokens = 4 * 240.0;
  const double bound = 2.0 * std::max(kLongestPrompt, 2.0 * kBatchTokens);
  EXPECT_LE(LargestLead(Backlog("a", 200, 40, 1.0), 1.0, Backlog("b", 20, 4, 1.0), 1.0), bound);
  EXPECT_LE(LargestLead(Backlog("a", 200, 2, 1.0), 1.0, Backlog("b", 3, 60, 1.0), 1.0), bound);
  EXPECT_LE(LargestLead(Backlog("a", 60, 10, 3.0), 3.0, Backlog("b", 60, 10, 1.0), 1.0), bound);
}

// First-token times, in steps, of a tenant that asks now and then; beside it `flood` requests of another for each of
// its own.
std::vector<int64_t> FirstTokenSteps(int flood) {
  SchedulerOptions options = SmallOptions();
  options.max_queue_per_tenant = 64;
  Harness harness(options, kRoomyLimits);
  const TenantTerms noisy = {.max_sequences = 6, .max_pages = 96};
  std::vector<int64_t> steps;
  int sent = 0;
  for (int request = 0; request < 100; ++request) {
    const std::string id = absl::StrCat("q", request);
    EXPECT_THAT(harness.Submit({.id = id, .tenant = "quiet", .prompt = 150, .max_tokens = 3}), IsOk());
    bool told = false;
    for (int64_t step = 1; step <= 40; ++step) {
      for (int i = 0; i < flood / 40; ++i) {
        const int64_t prompt = 50 + sent % 7 * 60;
        const absl::Status status = harness.Submit(
            {.id = absl::StrCat("n", sent++), .tenant = "noisy", .prompt = prompt, .max_tokens = 30, .terms = noisy});
        EXPECT_TRUE(status.ok() || absl::IsResourceExhausted(status)) << status;
      }
      harness.Step();
      if (!told && !harness.sink(id, "quiet").tokens().empty()) steps.push_back(step);
      told = told || !harness.sink(id, "quiet").tokens().empty();
    }
    EXPECT_TRUE(told) << id;
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

TEST(Fairness, Row41_AFloodAtMostDoublesAQuietTenantsFirstTokenAndAddsOneChunk) {
  const std::vector<int64_t> alone = FirstTokenSteps(0);
  const std::vector<int64_t> flooded = FirstTokenSteps(4000);
  ASSERT_EQ(flooded.size(), alone.size());
  const size_t p99 = alone.size() * 99 / 100;
  RecordProperty("alone_p99_steps", static_cast<int>(alone[p99]));
  RecordProperty("flooded_p99_steps", static_cast<int>(flooded[p99]));
  EXPECT_LE(flooded[p99], 2 * alone[p99] + 1);
}

// A prompt in the works does not hold up another tenant's beyond the chunk that runs.
TEST(Fairness, ALongPromptLetsAnotherTenantInAtTheNextChunk) {
  Harness harness(SmallOptions(), kRoomyLimits);
  ASSERT_THAT(harness.Submit({.id = "long", .tenant = "a", .prompt = 500, .max_tokens = 1}), IsOk());
  EXPECT_EQ(harness.Step(), "long:64");
  ASSERT_THAT(harness.Submit({.id = "short", .tenant = "b", .prompt = 40, .max_tokens = 1}), IsOk());
  EXPECT_EQ(harness.Step(), "long:24 short:40");
  EXPECT_EQ(harness.Step(), "long:40");
}

// Tokens found in the prefix index are nobody's cost.
TEST(Fairness, CachedTokensAreNotCharged) {
  SchedulerOptions options = SmallOptions();
  options.max_sequences = 1;
  Harness harness(options, kRoomyLimits);
  ASSERT_THAT(harness.Submit({.id = "a1", .tenant = "a", .prompt = 129, .text = "story", .max_tokens = 1}), IsOk());
  harness.Drain();  // a was charged 131
  ASSERT_THAT(harness.Submit({.id = "b1", .tenant = "b", .prompt = 30, .max_tokens = 1}), IsOk());
  ASSERT_THAT(harness.Submit({.id = "a2", .tenant = "a", .prompt = 129, .text = "story", .max_tokens = 1}), IsOk());
  ASSERT_THAT(harness.Submit({.id = "a3", .tenant = "a", .prompt = 1, .max_tokens = 1}), IsOk());
  ASSERT_THAT(harness.Submit({.id = "b2", .tenant = "b", .prompt = 1, .max_tokens = 1}), IsOk());
  EXPECT_EQ(harness.Step(), "b1:30");  // 32
  EXPECT_EQ(harness.Step(), "a2:1");   // 3
  EXPECT_EQ(harness.Step(), "a3:1");
  EXPECT_EQ(harness.Step(), "b2:1");
}

}  // namespace
}  // namespace nibble::sched
