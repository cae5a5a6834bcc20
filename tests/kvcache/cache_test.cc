#include "kvcache/cache.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace nibble::kv {
namespace {

using Tokens = std::vector<int32_t>;

constexpr Hash128 kKey = {11, 22};

Tokens Text(int64_t size, int32_t first = 0) {
  Tokens tokens;
  for (int64_t i = 0; i < size; ++i) tokens.push_back(first + static_cast<int32_t>(i % 97));
  return tokens;
}

// Opens, grows and seals all of `tokens`, as a sequence that computes its prompt does.
Lease Compute(Cache& cache, const std::string& salt, const Tokens& tokens) {
  Lease lease = cache.Open(salt, tokens);
  EXPECT_TRUE(cache.Grow(lease, static_cast<int64_t>(tokens.size())));
  cache.Seal(lease, tokens);
  return lease;
}

TEST(Cache, FindsTheLongestRunOfWholePagesAndLeavesOneTokenToCompute) {
  Cache cache(16, kKey);
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
  Cache cache(4, kKey);
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
  Cache cache(6, kKey);
  Compute(cache, "s", Text(96, 1));
  Compute(cache, "s", Text(96, 2));
  Lease taker = cache.Open("s", {});
  ASSERT_TRUE(cache.Grow(taker, 64));
  EXPECT_EQ(cache.Open("s", Text(97, 1)).cached_tokens(), 32);
  EXPECT_EQ(cache.Open("s", Text(97, 2)).cached_tokens(), 96);
}

TEST(Cache, AnEqualPageIsTakenFromTheIndexAndTheOwnGivenBack) {
  Cache cache(8, kKey);
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
  Cache cache(8, kKey);
  const Tokens text = Text(100);
  Lease a = cache.Open("s", text);
  ASSERT_TRUE(cache.Grow(a, 100));
  cache.Seal(a, absl::MakeConstSpan(text).first(40));
  Lease b = cache.Open("s", text);
  EXPECT_EQ(b.cached_tokens(), 32);
  EXPECT_EQ(b.pages()[0], a.pages()[0]);
}

TEST(Cache, FlushLeavesWhatIsHeld) {
  Cache cache(8, kKey);
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

Hash128 EqualHash(const Hash128&, absl::string_view) { return {7, 7}; }

// Everything collides: only what is equal may be shared, and nothing may be lost.
TEST(Cache, Row38_CollidingPagesAreNeverShared) {
  Cache cache(16, kKey, EqualHash);
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
    Cache cache(16, kKey, hash);
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
  // Each page id holds one content from its sealing until it is freed.
  void NoteSealed(PageId page, const Content& content) {
    const auto [found, fresh] = content_.try_emplace(page, content);
    EXPECT_TRUE(fresh || found->second == content) << "page " << page << " changed under a holder";
  }
  void Forget(const Cache& cache) {
    std::erase_if(content_, [&](const auto& entry) { return cache.state(entry.first) != PageState::kSealed; });
  }
  void ExpectContent(PageId page, const Content& content) const { EXPECT_EQ(content_.at(page), content); }

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
  Walk(uint32_t seed, Cache::HashFunction hash) : random_(seed), cache_(4 + Draw(30), kKey, hash) {}

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
  }

 private:
  int64_t Draw(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }

  // Few tokens and few salts, so that prefixes often agree.
  void OpenOne() {
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
    walkers_.push_back(std::move(walker));
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
    twin_.Forget(cache_);
    walker.computed = end;
    cache_.Seal(walker.lease, absl::MakeConstSpan(walker.tokens).first(end));
    for (int64_t page = 0; page < end / kPageTokens; ++page) {
      twin_.NoteSealed(walker.lease.pages()[page], Twin::PageOf(walker.salt, walker.tokens, page));
    }
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
  Twin twin_;
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
