// Thousands of streams that end in every way there is: each ends exactly once, and nothing is left behind.
#include <atomic>
#include <cstdlib>
#include <random>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "tests/server/server_fixture.h"

namespace nibble::server {
namespace {

using grpc::StatusCode;

constexpr int kClients = 32;

// NIBBLE_LIFECYCLE_REQUESTS overrides; 10000 is the full form.
int RequestsFromEnvironment() {
  const char* text = std::getenv("NIBBLE_LIFECYCLE_REQUESTS");
  int requests = 1500;
  EXPECT_TRUE(text == nullptr || absl::SimpleAtoi(text, &requests));
  return requests;
}

struct Tally {
  std::atomic<int> ok = 0, cancelled = 0, deadline = 0, refused = 0, other = 0, wrong = 0;

  void Count(StatusCode code) {
    switch (code) {
      case StatusCode::OK:
        ++ok;
        return;
      case StatusCode::CANCELLED:
        ++cancelled;
        return;
      case StatusCode::DEADLINE_EXCEEDED:
        ++deadline;
        return;
      case StatusCode::RESOURCE_EXHAUSTED:
        ++refused;
        return;
      default:
        ++other;
    }
  }
};

class ServerLifecycle : public ServerFixture {
 protected:
  void SetUp() override {
    // Few pages, so that growing sequences preempt each other; few queue places, so that some are refused.
    engine_options_.num_pages = 40;
    engine_options_.context_length = 512;
    engine_options_.max_sequences = 16;
    engine_options_.max_step_tokens = 96;
    options_.scheduler.max_queue = 12;
    options_.scheduler.max_queue_per_tenant = 12;
    options_.scheduler.watermark_pages = 2;
    StartDaemon();
    for (int i = 0; i < 12; ++i)
      prompts_.push_back(std::string(static_cast<size_t>(1 + i * 13), static_cast<char>('A' + i)));
    for (const std::string& prompt : prompts_) expected_.push_back(Generate(Ask(prompt, kTokens)).text);
  }

  // One request of one client: drawn at random how it is asked and how it is ended.
  void RunOne(std::mt19937& random, v1::Inference::Stub& stub, Tally& tally) {
    const size_t prompt = random() % prompts_.size();
    v1::GenerateRequest request = Ask(prompts_[prompt], kTokens);
    request.mutable_sampling()->set_n(1 + static_cast<int32_t>(random() % 3));
    grpc::ClientContext context;
    const uint32_t fate = random() % 4;
    if (fate == 0) context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Microseconds(random() % 20000)));
    const auto reader = stub.Generate(&context, request);
    if (fate == 1) {
      v1::GenerateResponse event;
      for (uint32_t reads = random() % 10; reads > 0 && reader->Read(&event); --reads) {
      }
      context.TryCancel();
    }
    const Reply reply = ReadAll(context, *reader);
    tally.Count(reply.status.error_code());
    if (fate > 1 && reply.status.ok()) CheckAnswer(reply, request.sampling().n(), expected_[prompt], tally);
  }

  static void CheckAnswer(const Reply& reply, int n, const std::string& expected, Tally& tally) {
    const bool every_choice_ended = static_cast<int>(reply.finished.size()) == n;
    if (!every_choice_ended || reply.text != expected) ++tally.wrong;
  }

  static constexpr int64_t kTokens = 60;
  std::vector<std::string> prompts_;
  std::vector<std::string> expected_;
};

TEST_F(ServerLifecycle, Row29_PreemptedAnswersEqualUndisturbedOnes) {
  const int64_t before = daemon_->Snapshot().preemptions;
  std::atomic<int> wrong = 0;
  for (int round = 0; round < 20 && daemon_->Snapshot().preemptions == before; ++round) {
    std::vector<std::thread> clients;
    for (size_t c = 0; c < prompts_.size(); ++c) {
      clients.emplace_back([&, c] { wrong += Generate(Ask(prompts_[c], kTokens)).text != expected_[c]; });
    }
    for (std::thread& client : clients) client.join();
  }
  EXPECT_GT(daemon_->Snapshot().preemptions, before) << "the pool was never too small";
  EXPECT_EQ(wrong, 0);
}

TEST_F(ServerLifecycle, EveryStreamEndsExactlyOnce) {
  const int requests = RequestsFromEnvironment();
  Tally tally;
  std::atomic<int> next = 0;
  std::vector<std::thread> clients;
  for (int c = 0; c < kClients; ++c) {
    clients.emplace_back([&, c] {
      std::mt19937 random(static_cast<uint32_t>(c));
      const auto stub = v1::Inference::NewStub(NewChannel());
      while (next++ < requests) RunOne(random, *stub, tally);
    });
  }
  for (std::thread& client : clients) client.join();

  EXPECT_EQ(tally.wrong, 0);
  EXPECT_EQ(tally.other, 0);
  EXPECT_EQ(tally.ok + tally.cancelled + tally.deadline + tally.refused, requests);
  EXPECT_GT(tally.ok, requests / 20);
  EXPECT_GT(tally.cancelled, requests / 20);
  EXPECT_GT(tally.deadline, 0);
  EXPECT_TRUE(Eventually([this] { return Idle(); })) << daemon_->streams() << " streams are left";
  const sched::Counters counters = daemon_->Snapshot();
  EXPECT_GT(counters.preemptions, 0);
  EXPECT_EQ(counters.pages_free + counters.pages_cached, counters.pages_total);
}

}  // namespace
}  // namespace nibble::server
