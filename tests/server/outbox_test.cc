#include "server/outbox.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace nibble::server {
namespace {

TEST(Outbox, TokensOfOneChoiceShareAChunk) {
  Outbox outbox;
  outbox.PushToken(0, "a", 1, nullptr);
  outbox.PushToken(0, "b", 2, nullptr);
  outbox.PushToken(1, "c", 3, nullptr);
  outbox.PushText(1, "d");
  const auto first = std::get<ChunkEvent>(outbox.Pop());
  EXPECT_EQ(first.text, "ab");
  EXPECT_THAT(first.ids, testing::ElementsAre(1, 2));
  const auto second = std::get<ChunkEvent>(outbox.Pop());
  EXPECT_EQ(second.index, 1);
  EXPECT_EQ(second.text, "cd");
  EXPECT_THAT(second.ids, testing::ElementsAre(3));
  EXPECT_TRUE(outbox.empty());
}

TEST(Outbox, AChunkStopsGrowing) {
  Outbox outbox;
  for (int i = 0; i < 200; ++i) outbox.PushToken(0, "x", i, nullptr);
  int chunks = 0;
  std::vector<int32_t> ids;
  for (; !outbox.empty(); ++chunks) {
    const auto chunk = std::get<ChunkEvent>(outbox.Pop());
    ids.insert(ids.end(), chunk.ids.begin(), chunk.ids.end());
  }
  EXPECT_EQ(chunks, 4);
  EXPECT_EQ(ids.size(), 200u);
}

TEST(Outbox, BytesGrowWithWhatWaitsAndReturnToZero) {
  Outbox outbox;
  const engine::Logprobs logprobs{.logprob = -1.0f, .top = std::vector<engine::TokenLogprob>(20)};
  int64_t before = 0;
  for (int i = 0; i < 100; ++i) {
    outbox.PushToken(0, "word", i, &logprobs);
    EXPECT_GE(outbox.bytes() - before, static_cast<int64_t>(4 + 20 * sizeof(engine::TokenLogprob)));
    before = outbox.bytes();
  }
  outbox.Push(StartedEvent{.request_id = "id", .model = "m"});
  while (!outbox.empty()) outbox.Pop();
  EXPECT_EQ(outbox.bytes(), 0);
}

}  // namespace
}  // namespace nibble::server
