#include "server/liveness.h"

#include <atomic>
#include <thread>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "tests/server/scripted_engine.h"

namespace nibble::server {
namespace {

constexpr sched::Nanos kSecond = 1'000'000'000;

// A loop that is never started: what is submitted stays undone.
class LivenessTest : public testing::Test, public sched::TokenSink {
 protected:
  Verdict OnToken(int, int32_t, const engine::Logprobs&) override { return Verdict::kContinue; }
  void OnPromptLogprobs(int64_t, absl::Span<const engine::Logprobs>) override {}
  void OnFinish(int, const sched::Finish&) override {}

  std::atomic<sched::Nanos> now_ = 1;
  ScriptedEngine engine_{ScriptedEngineOptions()};
  sched::ServingLoop loop_{&engine_, sched::SchedulerOptions(), [this] { return now_.load(); }};
};

TEST_F(LivenessTest, AnEngineIsStuckOnlyWithWorkUndone) {
  Liveness liveness(
      &loop_, [this] { return now_.load(); }, [] { return true; });
  now_ += 3600 * kSecond;
  EXPECT_EQ(liveness.Complaint(), "") << "idle";
  sched::Request request;
  request.id = "a";
  request.prompt = {1, 2};
  request.stopping.max_tokens = 1;
  ASSERT_TRUE(loop_.Submit(request, this).ok());
  now_ += 200 * kSecond;
  EXPECT_EQ(liveness.Complaint(), "") << "a long step";
  now_ += 3600 * kSecond;
  EXPECT_EQ(liveness.Complaint(), "engine stuck");
}

TEST_F(LivenessTest, DialsAtMostOncePerSecond) {
  int dials = 0;
  bool answers = true;
  Liveness liveness(
      &loop_, [this] { return now_.load(); }, [&] { return ++dials, answers; });
  for (int i = 0; i < 5; ++i) EXPECT_EQ(liveness.Complaint(), "");
  EXPECT_EQ(dials, 1);
  answers = false;
  now_ += kSecond;
  for (int i = 0; i < 5; ++i) EXPECT_EQ(liveness.Complaint(), "gRPC port deaf");
  EXPECT_EQ(dials, 2);
  answers = true;
  now_ += kSecond;
  EXPECT_EQ(liveness.Complaint(), "");
}

TEST_F(LivenessTest, NobodyWaitsForAnothersDial) {
  absl::Notification dialing, answered;
  Liveness liveness(
      &loop_, [this] { return now_.load(); },
      [&] {
        dialing.Notify();
        answered.WaitForNotification();
        return false;
      });
  std::string first;
  std::thread asker([&] { first = liveness.Complaint(); });
  dialing.WaitForNotification();
  EXPECT_EQ(liveness.Complaint(), "") << "what the last dial found";
  answered.Notify();
  asker.join();
  EXPECT_EQ(first, "gRPC port deaf");
  EXPECT_EQ(liveness.Complaint(), "gRPC port deaf");
}

}  // namespace
}  // namespace nibble::server
