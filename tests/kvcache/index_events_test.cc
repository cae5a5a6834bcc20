#include "kvcache/index_events.h"

#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kvcache/cache.h"
#include "tests/kvcache/computed_text.h"

namespace nibble::kv {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

// What a listener knows: for each page its tokens from position 0.
class Listener {
 public:
  void Hear(const std::vector<IndexEvent>& events) {
    for (const IndexEvent& event : events) {
      if (event.kind == IndexEvent::Kind::kRemoved) {
        EXPECT_EQ(prefixes_.erase(event.page), 1u) << "it was never stored";
        continue;
      }
      Tokens prefix = event.parent ? prefixes_.at(*event.parent) : Tokens();
      prefix.insert(prefix.end(), event.tokens.begin(), event.tokens.end());
      EXPECT_TRUE(prefixes_.emplace(event.page, prefix).second) << "it was stored already";
    }
  }
  std::set<Tokens> prefixes() const {
    std::set<Tokens> prefixes;
    for (const auto& [page, prefix] : prefixes_) prefixes.insert(prefix);
    return prefixes;
  }

 private:
  std::map<uint64_t, Tokens> prefixes_;
};

TEST(IndexEvents, NothingIsRecordedUnlessAsked) {
  Cache cache({8}, kKey);
  Compute(cache, "s", Text(64));
  EXPECT_THAT(cache.events().Take(), IsEmpty());
  EXPECT_THAT(cache.IndexedPages(), IsEmpty());
}

TEST(IndexEvents, APageIsToldOfWithTheOneBeforeIt) {
  Cache cache({8}, kKey);
  cache.events().Start("s");
  Compute(cache, "s", Text(70));
  const std::vector<IndexEvent> events = cache.events().Take();
  ASSERT_THAT(events, SizeIs(2));
  EXPECT_EQ(events[0].parent, std::nullopt);
  EXPECT_EQ(events[0].tokens, Text(32));
  EXPECT_EQ(events[1].parent, events[0].page);
  EXPECT_THAT(cache.events().Take(), IsEmpty());
  Compute(cache, "s", Text(70));
  EXPECT_THAT(cache.events().Take(), IsEmpty()) << "it was there already";
  cache.FlushIndex();
  const std::vector<IndexEvent> removed = cache.events().Take();
  ASSERT_THAT(removed, SizeIs(2));
  EXPECT_EQ(removed[0].page, events[1].page) << "the end of a chain goes first";
}

TEST(IndexEvents, OtherSaltsAreNotToldOf) {
  Cache cache({8}, kKey);
  Compute(cache, "other", Text(64));
  cache.events().Start("s");
  EXPECT_THAT(cache.IndexedPages(), IsEmpty());
  Compute(cache, "other", Text(64, 1));
  cache.FlushIndex();
  EXPECT_THAT(cache.events().Take(), IsEmpty());
}

// Whoever hears every event, and whoever begins to listen late, know the same, and a hit ends where they say.
TEST(IndexEvents, ALateListenerKnowsWhatAnEarlyOneKnows) {
  std::mt19937 random(7);
  Cache cache({24}, kKey);
  cache.events().Start("s");
  Listener early;
  for (int step = 0; step < 2000; ++step) {
    Tokens text = Text(static_cast<int64_t>(random() % 200), static_cast<int32_t>(random() % 3));
    if (text.size() > 40 && random() % 2 == 0) text[40] = 1000;
    Compute(cache, random() % 4 == 0 ? "other" : "s", text);
    if (random() % 100 == 0) cache.FlushIndex();
    early.Hear(cache.events().Take());
    Listener late;
    late.Hear(cache.IndexedPages());
    ASSERT_EQ(early.prefixes(), late.prefixes()) << "step " << step;
    Tokens probe = Text(97, static_cast<int32_t>(random() % 3));
    int64_t known = 0;
    while (known < 96 && early.prefixes().count(Tokens(probe.begin(), probe.begin() + known + 32)) > 0) known += 32;
    ASSERT_EQ(cache.Open("s", probe).cached_tokens(), known);
  }
}

}  // namespace
}  // namespace nibble::kv
