// SubscribeKvEvents as a gateway sees it.
#include <map>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kvcache/page.h"
#include "tests/server/server_fixture.h"
#include "vllm/engine.grpc.pb.h"

namespace nibble::server {
namespace {

namespace pb = vllm::grpc::engine;
namespace common = smg::grpc::common;
using grpc::StatusCode;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;

// One subscriber, and the prefixes that it believes to be cached.
class Subscription {
 public:
  Subscription(pb::VllmEngine::Stub& stub, uint64_t start) {
    common::SubscribeKvEventsRequest request;
    request.set_start_sequence_number(start);
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(240));
    reader_ = stub.SubscribeKvEvents(&context_, request);
  }

  // False where the stream has ended.
  bool Read() {
    common::KvEventBatch batch;
    if (!reader_->Read(&batch)) return false;
    sequence_.push_back(batch.sequence_number());
    for (const common::KvCacheEvent& event : batch.events()) Apply(event);
    return true;
  }
  // Reads until so many pages are known.
  void ReadUntil(size_t pages) {
    while (prefixes_.size() != pages) ASSERT_TRUE(Read()) << prefixes_.size() << " pages known";
  }
  grpc::Status Finish() {
    while (Read()) {
    }
    return reader_->Finish();
  }
  void Cancel() { context_.TryCancel(); }

  const std::vector<uint64_t>& sequence() const { return sequence_; }
  const std::map<int64_t, std::string>& prefixes() const { return prefixes_; }
  int cleared() const { return cleared_; }

 private:
  void Apply(const common::KvCacheEvent& event) {
    if (event.has_cleared()) {
      ++cleared_;
      prefixes_.clear();
    }
    for (const int64_t block : event.removed().block_hashes()) EXPECT_EQ(prefixes_.erase(block), 1u);
    std::string prefix;
    if (event.stored().has_parent_block_hash()) prefix = prefixes_.at(event.stored().parent_block_hash());
    for (const common::KvBlock& block : event.stored().blocks()) {
      EXPECT_EQ(block.block_size(), kv::kPageTokens);
      EXPECT_EQ(block.token_ids_size(), kv::kPageTokens);
      for (const uint32_t id : block.token_ids()) prefix += static_cast<char>(id);
      prefixes_[block.block_hash()] = prefix;
    }
  }

  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<common::KvEventBatch>> reader_;
  std::vector<uint64_t> sequence_;
  std::map<int64_t, std::string> prefixes_;
  int cleared_ = 0;
};

class ServerKvEvents : public ServerFixture {
 protected:
  void SetUp() override {
    Configure();
    ServerFixture::SetUp();
    vllm_ = pb::VllmEngine::NewStub(NewChannel());
  }
  virtual void Configure() {
    options_.limits.kv_event_subscribers = 3;
    options_.limits.kv_events_queued = 64;
  }
  std::unique_ptr<Subscription> Subscribe(uint64_t start = 0) { return std::make_unique<Subscription>(*vllm_, start); }
  void Flush() {
    grpc::ClientContext context;
    common::FlushCacheResponse response;
    EXPECT_TRUE(vllm_->FlushCache(&context, common::FlushCacheRequest(), &response).ok());
  }
  // A token is a byte; the answer's pages are left out.
  static std::string Prompt(char letter, int64_t pages) { return std::string(pages * kv::kPageTokens + 1, letter); }

  std::unique_ptr<pb::VllmEngine::Stub> vllm_;
};

TEST_F(ServerKvEvents, PagesComeAndGo) {
  const auto subscriber = Subscribe();
  ASSERT_TRUE(subscriber->Read()) << "the first batch comes at once, also where nothing is cached";
  EXPECT_THAT(subscriber->prefixes(), IsEmpty());
  EXPECT_TRUE(Generate(Ask(Prompt('x', 3), 1)).status.ok());
  subscriber->ReadUntil(3);
  for (int64_t pages = 1; pages <= 3; ++pages) {
    const std::string prefix(pages * kv::kPageTokens, 'x');
    EXPECT_THAT(subscriber->prefixes(), Contains(testing::Pair(testing::_, prefix)));
  }
  Flush();
  subscriber->ReadUntil(0);
  subscriber->Cancel();
  EXPECT_EQ(subscriber->Finish().error_code(), StatusCode::CANCELLED);
}

TEST_F(ServerKvEvents, ALateSubscriberBeginsWithWhatIsThereAndItsOwnNumber) {
  EXPECT_TRUE(Generate(Ask(Prompt('x', 3), 1)).status.ok());
  const auto subscriber = Subscribe(17);
  subscriber->ReadUntil(3);
  EXPECT_THAT(subscriber->sequence(), ElementsAre(17));
  EXPECT_EQ(subscriber->cleared(), 1);
  EXPECT_TRUE(Generate(Ask(Prompt('y', 2), 1)).status.ok());
  subscriber->ReadUntil(5);
  EXPECT_EQ(subscriber->sequence()[1], 18u);
}

TEST_F(ServerKvEvents, ASubscriberThatFallsBehindIsEndedAndNobodyWaitsForIt) {
  const auto subscriber = Subscribe();
  ASSERT_TRUE(subscriber->Read());
  // More than the windows of the connection and the bound take together.
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(Generate(Ask(absl::StrCat(i, Prompt('x', 7)), 1)).status.ok());
    Flush();
  }
  EXPECT_THAT(subscriber->Finish(), GrpcStatusIs(StatusCode::RESOURCE_EXHAUSTED, "fell behind"));
}

class ServerKvEventsStalled : public ServerKvEvents {
 protected:
  void SetUp() override {
    options_.limits.stall_timeout = absl::Seconds(1);
    ServerKvEvents::SetUp();
    // Fewer events than may be queued, and more than the windows of the connection take.
    ASSERT_LT(kRounds * 7 * 2, options_.limits.kv_events_queued);
  }
  void Configure() override {
    options_.limits.kv_event_subscribers = 1;
    options_.limits.kv_events_queued = 1 << 14;
  }
  void MakeEvents() {
    for (int i = 0; i < kRounds; ++i) {
      ASSERT_TRUE(Generate(Ask(absl::StrCat(i, Prompt('x', 7)), 1)).status.ok());
      Flush();
    }
  }

  static constexpr int kRounds = 250;
};

TEST_F(ServerKvEventsStalled, Row24_ASubscriberThatTakesNothingIsAborted) {
  const auto subscriber = Subscribe();
  ASSERT_TRUE(subscriber->Read());
  MakeEvents();
  absl::SleepFor(absl::Milliseconds(1400));  // past the timeout, before the reset
  EXPECT_THAT(subscriber->Finish(), GrpcStatusIs(StatusCode::ABORTED, "slow_reader"));
}

TEST_F(ServerKvEventsStalled, Row24_EvenTheStatusUnreadFreesItsPlace) {
  const auto subscriber = Subscribe();
  ASSERT_TRUE(subscriber->Read());
  MakeEvents();
  EXPECT_THAT(Subscribe()->Finish(), GrpcStatusIs(StatusCode::RESOURCE_EXHAUSTED, "too many subscribers"));
  EXPECT_TRUE(Eventually([this] { return Subscribe()->Read(); }));
  EXPECT_FALSE(subscriber->Finish().ok());
}

TEST_F(ServerKvEventsStalled, Row24_WhereNothingHappensNobodyIsSlow) {
  const auto subscriber = Subscribe();
  ASSERT_TRUE(subscriber->Read());
  absl::SleepFor(absl::Milliseconds(1500));
  EXPECT_TRUE(Generate(Ask(Prompt('x', 3), 1)).status.ok());
  subscriber->ReadUntil(3);
}

TEST_F(ServerKvEvents, SubscribersAreBounded) {
  std::vector<std::unique_ptr<Subscription>> kept;
  for (int i = 0; i < 3; ++i) {
    kept.push_back(Subscribe());
    ASSERT_TRUE(kept.back()->Read());
  }
  EXPECT_THAT(Subscribe()->Finish(), GrpcStatusIs(StatusCode::RESOURCE_EXHAUSTED, "too many subscribers"));
  kept[0]->Cancel();
  kept[0]->Finish();
  EXPECT_TRUE(Eventually([this] { return Subscribe()->Read(); }));
}

TEST_F(ServerKvEvents, Row65_ADrainEndsTheSubscription) {
  const auto subscriber = Subscribe();
  ASSERT_TRUE(subscriber->Read());
  std::thread drain([this] { daemon_->Drain(absl::Seconds(20)); });
  EXPECT_THAT(subscriber->Finish(), GrpcStatusIs(StatusCode::UNAVAILABLE, "shutting down"));
  drain.join();
  StopDaemon();
}

}  // namespace
}  // namespace nibble::server
