#include "scheduler/serving_loop.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <latch>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/admission.h"
#include "tests/base/status_matchers.h"
#include "tests/scheduler/harness.h"

namespace nibble::sched {
namespace {

using testing::_;

// A recording sink that another thread can wait for. What it recorded may be read after Wait.
class LoopSink : public RecordingSink {
 public:
  using RecordingSink::RecordingSink;
  Verdict OnToken(int index, int32_t token, const engine::Logprobs& logprobs) override {
    const Verdict verdict = RecordingSink::OnToken(index, token, logprobs);
    if (!first_token_.try_wait()) first_token_.count_down();
    return verdict;
  }
  void OnFinish(int index, const Finish& finish) override {
    RecordingSink::OnFinish(index, finish);
    if (RecordingSink::done()) done_.count_down();
  }
  void WaitForToken() { first_token_.wait(); }
  const Finish& Wait() {
    done_.wait();
    return finish();
  }
  bool ended() const { return done_.try_wait(); }

 private:
  std::latch first_token_{1};
  std::latch done_{1};
};

class LoopTest : public testing::Test {
 protected:
  LoopTest() : engine_(kSmallLimits), loop_(&engine_, SmallOptions(), [this] { return Now(); }) {}

  Nanos Now() {
    ++clock_reads_;
    return now_;
  }

  LoopSink& Submit(const RequestSpec& spec) {
    const Request request = MakeRequest(spec, now_);
    sinks_.push_back(std::make_unique<LoopSink>(request));
    EXPECT_THAT(loop_.Submit(request, sinks_.back().get()), IsOk());
    return *sinks_.back();
  }

  absl::Status Refused(const RequestSpec& spec) { return loop_.Submit(MakeRequest(spec, now_), nullptr); }

  // The counters when everything sent before is done. Whatever is sent is work until a step finds nothing to do.
  Counters Settled() {
    while (loop_.heartbeat().has_work) std::this_thread::yield();
    return loop_.Snapshot();
  }

  std::atomic<Nanos> now_ = 0;
  std::atomic<int64_t> clock_reads_ = 0;
  FakeEngine engine_;
  std::deque<std::unique_ptr<LoopSink>> sinks_;
  ServingLoop loop_;
};

TEST_F(LoopTest, ServesWhatIsSubmittedBeforeAndAfterTheStart) {
  LoopSink& before = Submit({.id = "a", .prompt = 100, .max_tokens = 20});
  loop_.Start();
  LoopSink& after = Submit({.id = "b", .prompt = 50, .max_tokens = 20, .num_choices = 2});
  EXPECT_EQ(before.Wait().reason, FinishReason::kLength);
  EXPECT_EQ(after.Wait().reason, FinishReason::kLength);
}

TEST_F(LoopTest, SubmitRefusesAtOnceAndKeepsNothing) {
  EXPECT_THAT(Refused({.id = "x", .max_tokens = 0}), StatusIs(absl::StatusCode::kInvalidArgument, _));
  Submit({.id = "x"});
  EXPECT_THAT(Refused({.id = "x"}), StatusIs(absl::StatusCode::kAlreadyExists, _));
  for (int i = 1; i < 256; ++i) Submit({.id = absl::StrCat(i)});
  const absl::Status full = Refused({.id = "y"});
  EXPECT_THAT(full, StatusIs(absl::StatusCode::kResourceExhausted, _));
  EXPECT_TRUE(RetryAfter(full).has_value());
  loop_.Start();
  for (auto& sink : sinks_) sink->Wait();
  Submit({.id = "y"}).Wait();
}

TEST_F(LoopTest, Row25_CancelBeforeTheLoopHasSeenTheRequest) {
  LoopSink& sink = Submit({.id = "x", .prompt = 10, .max_tokens = 5});
  loop_.Cancel(&sink, CancelCause::kClient);
  loop_.Start();
  EXPECT_EQ(sink.Wait().reason, FinishReason::kCancelled);
  EXPECT_TRUE(sink.tokens().empty());
}

// A client that goes away just as its answer ends: its messages find the id in other hands.
TEST_F(LoopTest, Row25_ALateCancelOrResumeSparesTheNextRequestOfThatId) {
  loop_.Start();
  LoopSink& ended = Submit({.id = "x", .prompt = 10, .max_tokens = 1});
  ended.Wait();
  Settled();
  std::latch release{1};
  engine_.OnAwait([&] { release.wait(); });
  LoopSink& next = Submit({.id = "x", .prompt = 10, .max_tokens = 50});
  next.AnswerNext(TokenSink::Verdict::kPause);
  loop_.Resume(&ended);
  loop_.Cancel(&ended, CancelCause::kClient);
  release.count_down();
  next.WaitForToken();
  loop_.Resume(&ended);
  EXPECT_EQ(Settled().sequences_paused, 1);
  loop_.Resume(&next);
  EXPECT_EQ(next.Wait().reason, FinishReason::kLength);
  EXPECT_EQ(loop_.Snapshot().cancelled[static_cast<size_t>(CancelCause::kClient)], 0);
}

TEST_F(LoopTest, StopEndsEverythingThatWasAccepted) {
  LoopSink& running = Submit({.id = "x", .prompt = 10, .max_tokens = 500});
  running.AnswerNext(TokenSink::Verdict::kPause);
  loop_.Start();
  running.WaitForToken();
  LoopSink& late = Submit({.id = "y", .prompt = 10, .max_tokens = 500});
  loop_.Stop();
  EXPECT_EQ(running.Wait().reason, FinishReason::kCancelled);
  EXPECT_TRUE(late.ended());
  EXPECT_THAT(Refused({.id = "z"}), StatusIs(absl::StatusCode::kUnavailable, _));
  EXPECT_GE(loop_.Snapshot().cancelled[static_cast<size_t>(CancelCause::kDrain)], 1);
  loop_.Stop();
}

TEST_F(LoopTest, ManyMayStopAtOnceAndAllFindItStopped) {
  loop_.Start();
  LoopSink& sink = Submit({.id = "x", .prompt = 10, .max_tokens = 500});
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      loop_.Stop();
      EXPECT_TRUE(sink.ended());
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(LoopTest, StopWithoutAStartEndsWhatWasAccepted) {
  LoopSink& sink = Submit({.id = "x"});
  loop_.Stop();
  EXPECT_TRUE(sink.ended());
}

TEST_F(LoopTest, DrainingRefusesTheNewAndFinishesTheOld) {
  LoopSink& old = Submit({.id = "x", .prompt = 10, .max_tokens = 50});
  loop_.BeginDrain();
  EXPECT_THAT(Refused({.id = "y"}), StatusIs(absl::StatusCode::kUnavailable, _));
  EXPECT_THAT(Refused({.id = "y"}), StatusIs(absl::StatusCode::kUnavailable, _));  // the id was not kept
  loop_.Start();
  EXPECT_EQ(old.Wait().reason, FinishReason::kLength);
}

TEST_F(LoopTest, Row24_APausedRequestGoesOnWhenItsReaderHasCaughtUp) {
  LoopSink& sink = Submit({.id = "x", .prompt = 10, .max_tokens = 50});
  sink.AnswerNext(TokenSink::Verdict::kPause);
  loop_.Start();
  sink.WaitForToken();
  EXPECT_EQ(Settled().sequences_paused, 1);
  EXPECT_FALSE(sink.ended());
  loop_.Resume(&sink);
  EXPECT_EQ(sink.Wait().reason, FinishReason::kLength);
}

TEST_F(LoopTest, Row26_ADeadlineFiresWhileNothingRuns) {
  LoopSink& sink = Submit({.id = "x", .prompt = 10, .max_tokens = 50, .deadline = 1000});
  sink.AnswerNext(TokenSink::Verdict::kPause);
  loop_.Start();
  sink.WaitForToken();
  now_ = 1000;
  EXPECT_EQ(sink.Wait().reason, FinishReason::kDeadline);
}

TEST_F(LoopTest, FlushFreesTheIndex) {
  loop_.Start();
  Submit({.id = "x", .prompt = 100, .max_tokens = 1}).Wait();
  EXPECT_EQ(Settled().pages_cached, 3);
  loop_.FlushIndex();
  EXPECT_EQ(Settled().pages_free, kSmallLimits.cache.num_pages);
}

TEST_F(LoopTest, AnIdleLoopSleeps) {
  loop_.Start();
  Submit({.id = "x", .prompt = 100, .max_tokens = 1}).Wait();
  Settled();
  const int64_t reads = clock_reads_;
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(clock_reads_, reads);
}

TEST_F(LoopTest, Row70_TheHeartbeatStopsWithTheEngineAndNotWithIdleness) {
  std::latch entered{1};
  std::latch release{1};
  engine_.OnAwait([&] {
    if (!entered.try_wait()) entered.count_down();
    release.wait();
  });
  loop_.Start();
  now_ = 1'000'000;  // idle for long
  LoopSink& sink = Submit({.id = "x"});
  entered.wait();
  now_ = 2'000'000;
  EXPECT_TRUE(loop_.heartbeat().has_work);
  EXPECT_EQ(loop_.heartbeat().last_step, 1'000'000);
  release.count_down();
  sink.Wait();
}

TEST_F(LoopTest, SubmitAndSnapshotNeverWaitForAStep) {
  std::latch entered{1};
  std::latch release{1};
  engine_.OnAwait([&] {
    if (!entered.try_wait()) entered.count_down();
    release.wait();
  });
  loop_.Start();
  LoopSink& first = Submit({.id = "x"});
  entered.wait();
  LoopSink& second = Submit({.id = "y"});
  loop_.Cancel(&second, CancelCause::kClient);
  loop_.Snapshot();
  release.count_down();  // a call above that waited for the step would never have come here
  EXPECT_EQ(first.Wait().reason, FinishReason::kLength);
  EXPECT_EQ(second.Wait().reason, FinishReason::kCancelled);
}

TEST_F(LoopTest, Row28_AFullQueueRefusesWithinTenMillisecondsWhileAStepRuns) {
  std::latch entered{1};
  std::latch release{1};
  engine_.OnAwait([&] {
    if (!entered.try_wait()) entered.count_down();
    release.wait();
  });
  loop_.Start();
  Submit({.id = "runs"});
  entered.wait();
  for (int i = 0; i < 256; ++i) Submit({.id = absl::StrCat(i)});
  std::vector<std::chrono::steady_clock::duration> times;
  for (int i = 0; i < 10; ++i) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_THAT(Refused({.id = "late"}), StatusIs(absl::StatusCode::kResourceExhausted, _));
    times.push_back(std::chrono::steady_clock::now() - start);
  }
  std::sort(times.begin(), times.end());
  EXPECT_LE(times[8], std::chrono::milliseconds(10));
  release.count_down();
  for (auto& sink : sinks_) sink->Wait();
}

// Keeps `live` requests going from one thread, with cancels, deadlines, pauses and choices drawn at random.
class Client {
 public:
  Client(ServingLoop* loop, std::atomic<Nanos>* now, int number, int live)
      : loop_(loop),
        now_(now),
        tenant_(absl::StrCat("tenant", number % 3)),
        number_(number),
        slots_(live),
        random_(number) {}

  void Run(int requests) {
    for (int i = 0; i < requests; ++i) {
      std::unique_ptr<LoopSink>& slot = slots_[i % slots_.size()];
      if (slot != nullptr) Collect(*slot);
      slot = Launch(absl::StrCat("c", number_, "/", i));
    }
    for (const auto& slot : slots_) {
      if (slot != nullptr) Collect(*slot);
    }
  }

  int64_t ended() const { return ended_; }

 private:
  int Draw(int n) { return static_cast<int>(random_() % static_cast<uint32_t>(n)); }

  std::unique_ptr<LoopSink> Launch(const std::string& id) {
    RequestSpec spec = {.id = id, .tenant = tenant_, .prompt = 1 + Draw(120), .text = absl::StrCat("text", Draw(4))};
    spec.max_tokens = 1 + Draw(40);
    spec.priority = Draw(3) - 1;
    spec.num_choices = Draw(8) == 0 ? 3 : 1;
    if (Draw(10) == 0) spec.deadline = *now_ + Draw(2000);
    if (Draw(16) == 0) spec.prompt_logprobs = 1;
    const Request request = MakeRequest(spec, *now_);
    auto sink = std::make_unique<LoopSink>(request);
    if (Draw(8) == 0) sink->AnswerNext(TokenSink::Verdict::kPause);
    if (Draw(30) == 0) sink->AnswerNext(TokenSink::Verdict::kStop);
    EXPECT_THAT(loop_->Submit(request, sink.get()), IsOk());
    if (Draw(5) == 0) loop_->Cancel(sink.get(), CancelCause::kClient);
    return sink;
  }

  // Some are cancelled in whatever state they are; the others are helped to their end.
  void Collect(LoopSink& sink) {
    if (Draw(3) == 0) loop_->Cancel(&sink, CancelCause::kClient);
    while (!sink.ended()) {
      loop_->Resume(&sink);
      std::this_thread::yield();
    }
    ended_ += sink.num_finished() == sink.request().num_choices;
  }

  ServingLoop* const loop_;
  std::atomic<Nanos>* const now_;
  const std::string tenant_;
  const int number_;
  std::vector<std::unique_ptr<LoopSink>> slots_;
  std::mt19937 random_;
  int64_t ended_ = 0;
};

TEST_F(LoopTest, TenThousandRequestsOver32LiveEndOnceAndLeaveNoPage) {
  constexpr int kThreads = 4;
  constexpr int kRequests = 2500;
  engine_.OnAwait([this] { now_ += 100; });
  loop_.Start();
  std::vector<std::unique_ptr<Client>> clients;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    clients.push_back(std::make_unique<Client>(&loop_, &now_, i, 8));
    threads.emplace_back([client = clients.back().get()] { client->Run(kRequests); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& client : clients) EXPECT_EQ(client->ended(), kRequests);
  Counters counters = Settled();
  int64_t finished = 0;
  for (const int64_t count : counters.finished) finished += count;
  EXPECT_EQ(finished, kThreads * kRequests);
  EXPECT_GT(counters.preemptions, 0);
  EXPECT_GT(counters.prefix_hits_tokens, 0);
  EXPECT_EQ(counters.pages_free + counters.pages_cached, counters.pages_total);
  loop_.FlushIndex();
  EXPECT_EQ(Settled().pages_free, counters.pages_total);
}

}  // namespace
}  // namespace nibble::sched
