#include "kvcache/cache.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kvcache/computed_text.h"

namespace nibble::kv {
namespace {

TEST(Cache, FindsTheLongestRunOfWholePagesAndLeavesOneTokenToCompute) {
  Cache cache({16}, kKey);
  Compute(cache, "s", Text(100));
  EXPECT_EQ(cache.Open("s", Text(100)).cached_tokens(), 96);
  EXPECT_EQ(cache.Open("s", Text(97)).cached_tokens(), 96);
  EXPECT_EQ(cache.Open("s", Text(96)).cached_tokens(), 64);
  EXPECT_EQ(cache.Open("s", Text(1)).cached_tokens(), 0);
  EXPECT_EQ(cache.Open("s", {}).cached_tokens(), 0);
  Tokens parted = Text(100);
  parted[40] = 5;
  EXPECT_EQ(cache.Open("s", parted).cached_tokens(), 32);
  EXPECT_EQ(cache.Open("other", Text(100)).cached_tokens(), 0);
  EXPECT_EQ(cache.stats().idle, 3);
}

TEST(Cache, GrowIsAllOrNothing) {
  Cache cache({4}, kKey);
  Lease a = cache.Open("s", Text(1));
  EXPECT_TRUE(cache.Grow(a, 64));
  Lease b = cache.Open("s", Text(1));
  EXPECT_FALSE(cache.Grow(b, 65));
  EXPECT_TRUE(b.pages().empty());
  EXPECT_TRUE(cache.Grow(b, 64));
  EXPECT_TRUE(cache.Grow(b, 10));
  EXPECT_EQ(cache.available(), 0);
}

TEST(Cache, EvictsTheLongestIdleChainFromItsEnd) {
  Cache cache({6}, kKey);
  Compute(cache, "s", Text(96, 1));
  Compute(cache, "s", Text(96, 2));
  Lease taker = cache.Open("s", {});
  ASSERT_TRUE(cache.Grow(taker, 64));
  EXPECT_EQ(cache.Open("s", Text(97, 1)).cached_tokens(), 32);
  EXPECT_EQ(cache.Open("s", Text(97, 2)).cached_tokens(), 96);
}

TEST(Cache, AnEqualPageIsTakenFromTheIndexAndTheOwnGivenBack) {
  Cache cache({8}, kKey);
  Lease a = cache.Open("s", Text(64));
  Lease b = cache.Open("s", Text(64));
  ASSERT_TRUE(cache.Grow(a, 64) && cache.Grow(b, 64));
  EXPECT_EQ(cache.stats().free, 4);
  cache.Seal(a, Text(64));
  cache.Seal(b, Text(64));
  EXPECT_EQ(cache.stats().free, 6);
  EXPECT_TRUE(std::equal(a.pages().begin(), a.pages().end(), b.pages().begin()));
  EXPECT_EQ(cache.holders(a.pages()[0]), 2);
}

TEST(Cache, APageSealedInTheMiddleOfAPromptIsSharedAtOnce) {
  Cache cache({8}, kKey);
  const Tokens text = Text(100);
  Lease a = cache.Open("s", text);
  ASSERT_TRUE(cache.Grow(a, 100));
  cache.Seal(a, absl::MakeConstSpan(text).first(40));
  Lease b = cache.Open("s", text);
  EXPECT_EQ(b.cached_tokens(), 32);
  EXPECT_EQ(b.pages()[0], a.pages()[0]);
}

TEST(Cache, FlushLeavesWhatIsHeld) {
  Cache cache({8}, kKey);
  Compute(cache, "s", Text(96, 1));
  Lease held = Compute(cache, "s", Text(64, 2));
  cache.FlushIndex();
  EXPECT_EQ(cache.stats().idle, 0);
  EXPECT_EQ(cache.stats().held, 2);
  EXPECT_EQ(cache.Open("s", Text(65, 2)).cached_tokens(), 64);
  cache.Close(held);
  cache.FlushIndex();
  EXPECT_EQ(cache.stats().free, 8);
}

// The accounting's part: a page that comes back is nobody's prefix, and has nothing computed.
TEST(Cache, Row39_ARecycledPageIsOpenAndFoundUnderNothing) {
  for (const CacheShape& shape : {CacheShape{6}, CacheShape{6, 12, 1, 1}}) {
    Cache cache(shape, kKey);
    Lease of_a = Compute(cache, "a", Text(97));
    const std::set<PageId> before(of_a.pages().begin(), of_a.pages().end());
    ASSERT_EQ(before.size(), 4u);
    cache.Close(of_a);
    Lease of_b = cache.Open("b", Text(97));
    EXPECT_EQ(of_b.cached_tokens(), 0);
    ASSERT_TRUE(cache.Grow(of_b, 6 * kPageTokens));
    int recycled = 0;
    for (const PageId page : of_b.pages()) {
      recycled += static_cast<int>(before.count(page));
      EXPECT_EQ(cache.state(page), PageState::kOpen);
      EXPECT_EQ(cache.holders(page), 1);
    }
    EXPECT_EQ(recycled, 4);
    EXPECT_EQ(cache.Open("a", Text(97)).cached_tokens(), 0);
    cache.CheckInvariants({&of_b});
  }
}

constexpr CacheShape kBanded = {32, 24, /*window_pages=*/1, /*sink_pages=*/1};

TEST(Cache, AHitEndsWhereTheRawFormsOfTheWindowAre) {
  Cache cache(kBanded, kKey);
  Compute(cache, "s", Text(200));
  // Twins lie at the prompt's end, which is also the lease's.
  EXPECT_EQ(cache.stats().raw_twins, 1);
  EXPECT_EQ(cache.Open("s", Text(200)).cached_tokens(), 192);
  Tokens parted = Text(200);
  parted[130] = 5;
  // The sealed pages go on to 128, but the raw form before it is gone: computed anew, it stays for the next one.
  EXPECT_EQ(cache.Open("s", parted).cached_tokens(), 32);
  Compute(cache, "s", parted);
  parted[130] = 6;
  EXPECT_EQ(cache.Open("s", parted).cached_tokens(), 128);
  EXPECT_EQ(cache.Open("s", parted).raw_slots()[3] != kNoRawSlot, true);
}

TEST(Cache, RawSlotsOfOneStepAreGivenBackWithIt) {
  Cache cache({32, 9, 1, 1}, kKey);
  ASSERT_EQ(cache.max_leases(), 2);
  const Tokens text = Text(200);
  Lease a = cache.Open("s", text), b = cache.Open("t", text);
  ASSERT_TRUE(cache.Grow(a, 200) && cache.Grow(b, 200));
  ASSERT_TRUE(cache.GrowRaw(a, 0, 40));
  cache.Seal(a, absl::MakeConstSpan(text).first(40));
  EXPECT_TRUE(cache.GrowRaw(a, 40, 200));  // the sink, pages 1 and, beyond it, 5 and 6
  cache.Seal(a, absl::MakeConstSpan(text).first(200));
  EXPECT_EQ(cache.stats().raw_free, 6);
  EXPECT_TRUE(cache.GrowRaw(b, 0, 200));
  cache.CheckInvariants({&a, &b});
}

TEST(Cache, SinksGoWithTheirChains) {
  Cache cache({32, 9, 1, 1}, kKey);
  for (int i = 0; i < 12; ++i) Compute(cache, "s", Text(40, i));
  EXPECT_EQ(cache.stats().raw_free, 1);  // the last chain gave its open page back
  EXPECT_EQ(cache.Open("s", Text(40, 11)).cached_tokens(), 32);
  EXPECT_EQ(cache.Open("s", Text(40, 0)).cached_tokens(), 0);
  cache.FlushIndex();
  EXPECT_EQ(cache.stats().raw_free, 9);
}

Hash128 EqualHash(const Hash128&, absl::string_view) { return {7, 7}; }

// Everything collides: only what is equal may be shared, and nothing may be lost.
TEST(Cache, Row38_CollidingPagesAreNeverShared) {
  Cache cache({16}, kKey, EqualHash);
  Lease first = Compute(cache, "s", Text(64, 1));
  EXPECT_EQ(cache.Open("s", Text(64, 2)).cached_tokens(), 0);
  EXPECT_EQ(cache.Open("other salt", Text(64, 1)).cached_tokens(), 0);
  EXPECT_EQ(cache.Open("s", Text(33, 1)).cached_tokens(), 32);
  {
    Lease second = Compute(cache, "s", Text(64, 2));
    EXPECT_NE(second.pages()[0], first.pages()[0]);
    cache.CheckInvariants({&first, &second});
  }
  cache.CheckInvariants({&first});
  cache.Close(first);
  cache.FlushIndex();
  EXPECT_EQ(cache.stats().free, 16);
}

// Equal tokens after different pages, and a page whose tokens equal its predecessor's.
TEST(Cache, Row38_APageIsFoundOnlyAfterItsOwnPredecessors) {
  for (const auto hash : {SipHash128, EqualHash}) {
    Cache cache({16}, kKey, hash);
    const Tokens repeated(96, 3);
    Lease lease = Compute(cache, "s", repeated);
    Tokens other(96, 3);
    other[0] = 4;
    EXPECT_EQ(cache.Open("s", other).cached_tokens(), 0);
    EXPECT_EQ(cache.Open("s", repeated).cached_tokens(), hash == EqualHash ? 32 : 64);
  }
}

// A weak hash that collides often but not always.
Hash128 WeakHash(const Hash128& key, absl::string_view bytes) { return {SipHash128(key, bytes).low % 8, 0}; }

// What the cache should hold, told without hashes, lists or counts: by content.
class Twin {
 public:
  using Content = std::pair<std::string, Tokens>;  // salt; all tokens up to a page's end

  static Content PageOf(const std::string& salt, const Tokens& tokens, int64_t page) {
    return {salt, Tokens(tokens.begin(), tokens.begin() + (page + 1) * kPageTokens)};
  }
  void Write(int32_t id, const Content& content) { content_[id] = content; }
  // Each page id holds one content from its sealing until it is freed.
  void NoteSealed(PageId page, const Content& content) {
    const auto [found, fresh] = content_.try_emplace(page, content);
    EXPECT_TRUE(fresh || found->second == content) << "page " << page << " changed under a holder";
  }
  void Forget(const Cache& cache) {
    std::erase_if(content_, [&](const auto& entry) { return cache.state(entry.first) != PageState::kSealed; });
  }
  void ExpectContent(int32_t id, const Content& content) const { EXPECT_EQ(content_.at(id), content); }

 private:
  std::map<PageId, Content> content_;
};

struct Walker {
  std::string salt;
  Tokens tokens;
  int64_t computed = 0;
  Lease lease;
};

class Walk {
 public:
  Walk(uint32_t seed, Cache::HashFunction hash) : random_(seed), cache_(DrawShape(), kKey, hash) {}

  void Step() {
    twin_.Forget(cache_);
    switch (Draw(8)) {
      case 0:
      case 1:
        OpenOne();
        break;
      case 2:
        CloseOne();
        break;
      case 3:
        if (Draw(10) == 0) cache_.FlushIndex();
        break;
      default:
        ComputeSome();
    }
    Check();
  }

  void End() {
    walkers_.clear();
    cache_.FlushIndex();
    EXPECT_EQ(cache_.stats().free, cache_.stats().total);
    EXPECT_EQ(cache_.stats().raw_free, cache_.stats().raw_slots);
  }

 private:
  int64_t Draw(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }

  CacheShape DrawShape() {
    CacheShape shape = {4 + Draw(30)};
    if (Draw(3) == 0) return shape;
    shape.window_pages = static_cast<int>(Draw(3));
    shape.sink_pages = static_cast<int>(Draw(3));
    shape.raw_slots = 2 * shape.window_pages + shape.sink_pages + 2 + Draw(30);
    return shape;
  }

  // Few tokens and few salts, so that prefixes often agree.
  void OpenOne() {
    if (cache_.num_leases() == cache_.max_leases()) return;
    Walker walker;
    walker.salt = Draw(3) == 0 ? "x" : "y";
    for (int64_t size = 1 + Draw(200); size > 0; --size) {
      walker.tokens.push_back(walker.tokens.size() % 16 == 0 ? static_cast<int32_t>(Draw(2)) : 0);
    }
    walker.lease = cache_.Open(walker.salt, walker.tokens);
    walker.computed = walker.lease.cached_tokens();
    EXPECT_LT(walker.computed, static_cast<int64_t>(walker.tokens.size()));
    for (int64_t page = 0; page < walker.computed / kPageTokens; ++page) {
      twin_.ExpectContent(walker.lease.pages()[page], Twin::PageOf(walker.salt, walker.tokens, page));
    }
    ExpectRawWhereRead(walker);
    walkers_.push_back(std::move(walker));
  }

  // The next token's query finds every raw form that the page-banded rule gives it.
  void ExpectRawWhereRead(const Walker& walker) const {
    if (cache_.shape().in_place()) return;
    const int64_t page = walker.computed / kPageTokens;
    for (int64_t j = 0; j < page; ++j) {
      const bool raw = j < cache_.shape().sink_pages || j >= page - cache_.shape().window_pages;
      const RawSlot slot = walker.lease.raw_slots()[j];
      EXPECT_EQ(slot != kNoRawSlot, raw) << "page " << j << " of " << page;
      if (raw) raw_.ExpectContent(slot, Twin::PageOf(walker.salt, walker.tokens, j));
    }
  }

  void CloseOne() {
    if (walkers_.empty()) return;
    const int64_t at = Draw(static_cast<int64_t>(walkers_.size()));
    std::swap(walkers_[at], walkers_.back());
    walkers_.pop_back();
  }

  void ComputeSome() {
    if (walkers_.empty()) return;
    Walker& walker = walkers_[Draw(static_cast<int64_t>(walkers_.size()))];
    const int64_t end = std::min<int64_t>(walker.computed + 1 + Draw(70), static_cast<int64_t>(walker.tokens.size()));
    const int64_t need = PagesFor(end) - static_cast<int64_t>(walker.lease.pages().size());
    const CacheStats before = cache_.stats();
    const bool grown = cache_.Grow(walker.lease, end);
    EXPECT_EQ(grown, need <= before.free + before.idle);
    EXPECT_EQ(cache_.stats().held, before.held + (grown ? std::max<int64_t>(need, 0) : 0));
    if (!grown) return CloseOne();
    // A step of many pages may ask for too many raw slots; one that stays in its page may not.
    int64_t last = end;
    if (!cache_.GrowRaw(walker.lease, walker.computed, last)) {
      last = std::min(end, (walker.computed / kPageTokens + 1) * kPageTokens);
      EXPECT_TRUE(cache_.GrowRaw(walker.lease, walker.computed, last));
    }
    twin_.Forget(cache_);
    WriteRaw(walker, last);
    Finish(walker, last);
  }

  // What a step writes: the raw form of each page that has a slot.
  void WriteRaw(const Walker& walker, int64_t end) {
    for (int64_t page = walker.computed / kPageTokens; (page + 1) * kPageTokens <= end; ++page) {
      const RawSlot slot = walker.lease.raw_slots()[page];
      if (slot != kNoRawSlot) raw_.Write(slot, Twin::PageOf(walker.salt, walker.tokens, page));
    }
  }

  void Finish(Walker& walker, int64_t end) {
    walker.computed = end;
    cache_.Seal(walker.lease, absl::MakeConstSpan(walker.tokens).first(end));
    for (int64_t page = 0; page < end / kPageTokens; ++page) {
      twin_.NoteSealed(walker.lease.pages()[page], Twin::PageOf(walker.salt, walker.tokens, page));
    }
    ExpectRawWhereRead(walker);
  }

  void Check() {
    std::vector<const Lease*> leases;
    std::set<PageId> held;
    for (const Walker& walker : walkers_) {
      leases.push_back(&walker.lease);
      held.insert(walker.lease.pages().begin(), walker.lease.pages().end());
      EXPECT_EQ(walker.lease.sealed_pages(), walker.computed / kPageTokens);
    }
    EXPECT_EQ(cache_.stats().held, static_cast<int64_t>(held.size()));
    cache_.CheckInvariants(leases);
  }

  std::mt19937 random_;
  Cache cache_;
  Twin twin_, raw_;  // by page, by raw slot
  std::vector<Walker> walkers_;
};

TEST(Cache, RandomWalkAgreesWithATwinThatKnowsContents) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    Walk walk(seed, seed % 3 == 0 ? WeakHash : SipHash128);
    for (int step = 0; step < 150; ++step) walk.Step();
    walk.End();
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace nibble::kv
