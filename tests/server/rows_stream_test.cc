// Rows 24-28 of the robustness table: slow readers, cancels, deadlines, ids and full queues.
#include <algorithm>
#include <numeric>
#include <thread>

#include "absl/time/clock.h"
#include "tests/server/server_fixture.h"

namespace nibble::server {
namespace {

using grpc::StatusCode;

// A call whose reader the test drives.
struct OpenCall {
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader;
};

class ServerRows : public ServerFixture {
 protected:
  std::unique_ptr<OpenCall> Open(const v1::GenerateRequest& request) {
    auto call = std::make_unique<OpenCall>();
    call->reader = stub_->Generate(&call->context, request);
    return call;
  }
  // Opens and reads the Started event: the request is past admission.
  std::unique_ptr<OpenCall> OpenStarted(const v1::GenerateRequest& request) {
    auto call = Open(request);
    v1::GenerateResponse event;
    EXPECT_TRUE(call->reader->Read(&event));
    EXPECT_TRUE(event.has_started());
    return call;
  }
  static Reply ReadRest(OpenCall& call) { return ReadAll(call.context, *call.reader); }

  // Cancels and expects what row 25 says. A held engine passes a step at a time, slowly, until the loop has read its
  // mail: however late the cancel comes.
  void ExpectCancelled(OpenCall& call) {
    const sched::Counters before = daemon_->Snapshot();
    call.context.TryCancel();
    EXPECT_EQ(ReadRest(call).status.error_code(), StatusCode::CANCELLED);
    EXPECT_TRUE(Eventually([&] {
      absl::SleepFor(absl::Milliseconds(20));
      engine_->LetPass(1);
      return daemon_->Snapshot().finished[kCancelled] > before.finished[kCancelled];
    }));
    EXPECT_EQ(daemon_->Snapshot().cancelled[kByClient], before.cancelled[kByClient] + 1);
    EXPECT_EQ(daemon_->Snapshot().finished[kCancelled], before.finished[kCancelled] + 1);
  }

  int64_t Ended() const {
    const auto& finished = daemon_->Snapshot().finished;
    return std::accumulate(finished.begin(), finished.end(), int64_t{0});
  }
  // Of one cause, as a scrape has it.
  int64_t CancelledAtScrape(const std::string& cause) const {
    const std::string text = HttpGet("/metrics");
    const size_t line = text.find("\nnibble_cancelled_total{cause=\"" + cause + "\"");
    EXPECT_NE(line, std::string::npos);
    return line == std::string::npos ? -1 : std::stoll(text.substr(text.find("} ", line) + 2));
  }

  static constexpr auto kCancelled = static_cast<size_t>(sched::FinishReason::kCancelled);
  static constexpr auto kByClient = static_cast<size_t>(sched::CancelCause::kClient);
  static constexpr auto kBySlowReader = static_cast<size_t>(sched::CancelCause::kSlowReader);
};

// An answer of about a MiB on the wire: more than the client's window and the outbox hold.
v1::GenerateRequest AskLargeAnswer() {
  v1::GenerateRequest request;
  request.set_text("large");
  request.mutable_sampling()->set_temperature(0.0f);
  request.mutable_stopping()->set_max_tokens(4000);
  request.set_logprobs(20);
  return request;
}

class ServerRowsSlowReader : public ServerRows {
 protected:
  void SetUp() override { Start(absl::Milliseconds(400)); }
  void Start(absl::Duration stall_timeout) {
    engine_options_.context_length = 4096;
    options_.limits.outbox_bytes = 32 << 10;
    options_.limits.stall_timeout = stall_timeout;
    StartDaemon();
  }
  bool Paused() const { return daemon_->Snapshot().sequences_paused == 1; }
};

TEST_F(ServerRowsSlowReader, Row24_StalledReaderIsPausedThenAborted) {
  const auto call = OpenStarted(AskLargeAnswer());
  EXPECT_TRUE(Eventually([this] { return Paused(); }));
  EXPECT_LT(daemon_->Snapshot().generated_tokens, 3900);
  EXPECT_EQ(Generate(Ask("canary", 16)).text, canary_) << "others go on";
  EXPECT_TRUE(Eventually([this] { return daemon_->Snapshot().cancelled[kBySlowReader] == 1; }));
  EXPECT_THAT(ReadRest(*call).status, GrpcStatusIs(StatusCode::ABORTED, "slow_reader"));
}

TEST_F(ServerRowsSlowReader, Row24_EvenTheStatusUnreadFreesTheStream) {
  const auto call = OpenStarted(AskLargeAnswer());
  EXPECT_TRUE(Eventually([this] { return Paused(); }));
  EXPECT_TRUE(Eventually([this] { return daemon_->streams() == 0; }));
  EXPECT_TRUE(Idle());
  EXPECT_FALSE(ReadRest(*call).status.ok());
}

// Tokens come all the while, so that a stream is aborted between two of them: some 800 of them, a millisecond each,
// before it would pause.
class ServerRowsSlowReaderOfASlowEngine : public ServerRowsSlowReader {
 protected:
  void SetUp() override {
    engine_options_.step_time = absl::Milliseconds(1);
    Start(absl::Milliseconds(100));
  }
};

TEST_F(ServerRowsSlowReaderOfASlowEngine, Row24_AbortedWhileTokensStillCome) {
  std::vector<std::unique_ptr<OpenCall>> calls;
  for (int i = 0; i < 24; ++i) calls.push_back(OpenStarted(AskLargeAnswer()));
  EXPECT_TRUE(Eventually([this] { return daemon_->streams() == 0; })) << daemon_->streams();
  EXPECT_EQ(daemon_->Snapshot().cancelled[kBySlowReader], 24);
  for (const auto& call : calls) EXPECT_FALSE(ReadRest(*call).status.ok());
}

class ServerRowsPatient : public ServerRowsSlowReader {
 protected:
  void SetUp() override { Start(absl::Seconds(30)); }
};

TEST_F(ServerRowsPatient, Row24_ReaderThatComesBackLosesNothing) {
  const Reply whole = Generate(AskLargeAnswer());
  const auto call = OpenStarted(AskLargeAnswer());
  EXPECT_TRUE(Eventually([this] { return Paused(); }));
  const Reply late = ReadRest(*call);
  EXPECT_TRUE(late.status.ok()) << late.status.error_message();
  EXPECT_EQ(late.ids, whole.ids);
  EXPECT_EQ(late.text, whole.text);
  EXPECT_LT(late.events.size(), whole.ids.size()) << "waiting tokens share messages";
}

TEST_F(ServerRowsPatient, Row25_CancelWhilePaused) {
  const auto call = OpenStarted(AskLargeAnswer());
  EXPECT_TRUE(Eventually([this] { return Paused(); }));
  ExpectCancelled(*call);
}

TEST_F(ServerRows, Row25_CancelWhileDecoding) {
  engine_->Hold();
  const auto call = OpenStarted(Ask("hello", 100));
  engine_->LetPass(5);
  v1::GenerateResponse event;
  EXPECT_TRUE(call->reader->Read(&event));
  engine_->AwaitHeldStep();
  ExpectCancelled(*call);
}

TEST_F(ServerRows, Row25_CancelInMidPrefill) {
  engine_->Hold();
  const auto call = OpenStarted(Ask(std::string(900, 'x'), 100));
  engine_->LetPass(1);
  engine_->AwaitHeldStep();
  ExpectCancelled(*call);
  EXPECT_LT(engine_->PromptTokensRun('x'), 900);
}

// The loop waits for a held step, so that what comes meanwhile lies in its mailbox. Whether the request or its cancel
// is there first is chance: the calls go on until one request was.
TEST_F(ServerRows, Row25_CancelBeforeAdmission) {
  engine_->Hold();
  const auto running = OpenStarted(Ask("hello", 1000));
  const auto cancelled = [this] { return daemon_->Snapshot().cancelled[kByClient]; };
  int64_t sent = 0;
  EXPECT_TRUE(Eventually([&] {
    engine_->AwaitHeldStep();
    const auto call = Open(Ask("hello", 1000));
    EXPECT_TRUE(Eventually([this] { return daemon_->streams() == 2; }));
    call->context.TryCancel();
    EXPECT_EQ(ReadRest(*call).status.error_code(), StatusCode::CANCELLED);
    EXPECT_TRUE(Eventually([&] {
      engine_->LetPass(1);
      return daemon_->streams() == 1;
    }));
    // With the next step the loop has published what it ended before.
    engine_->AwaitHeldStep();
    engine_->LetPass(1);
    engine_->AwaitHeldStep();
    ++sent;
    return cancelled() > 0;
  }));
  EXPECT_LE(CancelledAtScrape("client"), sent) << "none is counted twice";
  ExpectCancelled(*running);
}

// Some of these never reach the server, and some come at any moment of its taking them in.
TEST_F(ServerRows, Row25_CancelAtOnce) {
  for (int i = 0; i < 60; ++i) {
    const auto call = Open(Ask("hello", 1000));
    call->context.TryCancel();
    EXPECT_EQ(ReadRest(*call).status.error_code(), StatusCode::CANCELLED);
  }
  EXPECT_TRUE(Eventually([this] { return Idle(); }));
  EXPECT_LE(CancelledAtScrape("client"), 60) << "none is counted twice";
}

TEST_F(ServerRows, Row25_CancelAtTheLastToken) {
  const int64_t before = Ended();
  for (int i = 0; i < 50; ++i) {
    const auto call = OpenStarted(Ask("hello", 1));
    v1::GenerateResponse event;
    EXPECT_TRUE(call->reader->Read(&event));
    call->context.TryCancel();
    const StatusCode code = ReadRest(*call).status.error_code();
    EXPECT_TRUE(code == StatusCode::CANCELLED || code == StatusCode::OK) << code;
  }
  // The last one's stream may be gone before the loop has published that it ended.
  EXPECT_TRUE(Eventually([&] { return Idle() && Ended() >= before + 50; }));
  EXPECT_EQ(Ended(), before + 50) << "each ended once";
}

class ServerRowsOneAtATime : public ServerRows {
 protected:
  void SetUp() override {
    engine_options_.max_sequences = 1;
    options_.scheduler.max_queue = 2;
    options_.scheduler.max_queue_per_tenant = 2;
    StartDaemon();
    engine_->Hold();
    running_ = OpenStarted(Ask("hello", 4));
    engine_->AwaitHeldStep();
  }
  void TearDown() override {
    engine_->Release();
    EXPECT_TRUE(ReadRest(*running_).status.ok());
    ServerRows::TearDown();
  }
  std::unique_ptr<OpenCall> running_;
};

TEST_F(ServerRowsOneAtATime, Row25_CancelWhileQueued) {
  const auto call = OpenStarted(Ask("Zebra"));
  ExpectCancelled(*call);
  EXPECT_EQ(engine_->PromptTokensRun('Z'), 0);
}

TEST_F(ServerRowsOneAtATime, Row28_NotReadyWhileTheQueueIsLong) {
  EXPECT_NE(HttpGet("/readyz").find(" 200 "), std::string::npos);
  const auto waiting = OpenStarted(Ask("Zebra"));
  engine_->LetPass(2);  // one that did not know of it yet, and one after which it is counted
  EXPECT_TRUE(Eventually([this] { return HttpGet("/readyz").find("high-water") != std::string::npos; }));
  EXPECT_NE(HttpGet("/livez").find(" 200 "), std::string::npos) << "load is nothing to die of";
  engine_->Release();
  EXPECT_TRUE(ReadRest(*waiting).status.ok());
  EXPECT_TRUE(Eventually([this] { return HttpGet("/readyz").find(" 200 ") != std::string::npos; }));
}

TEST_F(ServerRowsOneAtATime, Row26_DeadlineInTheQueueIsNeverPrefilled) {
  const Reply reply = Generate(Ask("Zebra"), absl::Milliseconds(50));
  EXPECT_EQ(reply.status.error_code(), StatusCode::DEADLINE_EXCEEDED);
  engine_->Release();
  EXPECT_TRUE(Eventually([this] { return daemon_->Snapshot().sequences_waiting == 0; }));
  EXPECT_EQ(engine_->PromptTokensRun('Z'), 0);
}

TEST_F(ServerRows, Row26_DeadlineOfNoTime) {
  engine_->Hold();
  for (const absl::Duration deadline : {absl::ZeroDuration(), absl::Milliseconds(1), -absl::Seconds(5)}) {
    v1::GenerateRequest request = Ask("Zebra", 1000);
    EXPECT_EQ(Generate(request, deadline).status.error_code(), StatusCode::DEADLINE_EXCEEDED);
  }
}

TEST_F(ServerRows, Row26_DeadlineThousandsOfYearsAwayIsNone) {
  for (const int64_t hours : {int64_t{9} * 365 * 24, int64_t{300} * 365 * 24, int64_t{90'000'000}}) {
    grpc::ClientContext context;
    context.set_deadline(gpr_time_add(gpr_now(GPR_CLOCK_REALTIME), gpr_time_from_hours(hours, GPR_TIMESPAN)));
    const Reply reply = ReadAll(context, *stub_->Generate(&context, Ask("canary", 16)));
    EXPECT_EQ(reply.text, canary_) << hours << ": " << reply.status.error_message();
  }
}

TEST_F(ServerRowsOneAtATime, Row27_SameIdTwice) {
  v1::GenerateRequest request = Ask("twin");
  request.set_request_id("one");
  const auto first = OpenStarted(request);
  EXPECT_EQ(Generate(request).status.error_code(), StatusCode::ALREADY_EXISTS);
  first->context.TryCancel();
  engine_->Release();
  EXPECT_EQ(ReadRest(*first).status.error_code(), StatusCode::CANCELLED);
  // The id is free again once the cancelled request is gone; and after every normal end.
  EXPECT_TRUE(Eventually([&] { return Generate(request).status.ok(); }));
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(Generate(request).status.ok());
}

TEST_F(ServerRowsOneAtATime, Row28_FullQueueRefusesAtOnceWithAHint) {
  const auto second = OpenStarted(Ask("second"));
  const auto third = OpenStarted(Ask("third"));
  std::vector<absl::Duration> times;
  for (int i = 0; i < 10; ++i) {
    const absl::Time start = absl::Now();
    const Reply reply = Generate(Ask("fourth"));
    times.push_back(absl::Now() - start);
    EXPECT_EQ(reply.status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_EQ(reply.pushback_ms, "1000");
  }
  std::sort(times.begin(), times.end());
  EXPECT_LT(times[8], absl::Milliseconds(10));
  engine_->Release();
  EXPECT_TRUE(ReadRest(*second).status.ok());
  EXPECT_TRUE(ReadRest(*third).status.ok());
}

TEST_F(ServerRowsOneAtATime, Row28_OverloadIsRefusedOrServedNeverLost) {
  engine_->Release();
  std::atomic<int> served = 0, refused = 0, other = 0;
  std::vector<std::thread> clients;
  for (int c = 0; c < 16; ++c) {
    clients.emplace_back([&] {
      for (int i = 0; i < 25; ++i) {
        const StatusCode code = Generate(Ask("load", 8)).status.error_code();
        ++(code == StatusCode::OK ? served : code == StatusCode::RESOURCE_EXHAUSTED ? refused : other);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(served + refused, 16 * 25);
  EXPECT_GT(served, 0);
  EXPECT_GT(refused, 0);
}

TEST_F(ServerRows, FaultEndsOneRequestAlone) {
  v1::GenerateRequest bad;
  bad.mutable_token_ids()->add_ids(ScriptedEngine::kFaultToken);
  bad.mutable_stopping()->set_max_tokens(4);
  const auto neighbour = OpenStarted(Ask("canary", 16));
  EXPECT_EQ(Generate(bad).status.error_code(), StatusCode::INTERNAL);
  const Reply reply = ReadRest(*neighbour);
  EXPECT_EQ(reply.text, canary_);
  EXPECT_TRUE(reply.status.ok());
}

}  // namespace
}  // namespace nibble::server
