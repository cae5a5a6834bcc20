#include "kvcache/cache.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "kvcache/base/check.h"

namespace nibble::kv {

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  if (cache_ != nullptr) cache_->Close(*this);
  cache_ = std::exchange(other.cache_, nullptr);
  salt_ = std::move(other.salt_);
  pages_ = std::exchange(other.pages_, {});
  sealed_ = std::exchange(other.sealed_, 0);
  cached_tokens_ = std::exchange(other.cached_tokens_, 0);
  chain_ = other.chain_;
  indexed_ = other.indexed_;
  return *this;
}

Lease::~Lease() {
  if (cache_ != nullptr) cache_->Close(*this);
}

Cache::Cache(int64_t num_pages, const Hash128& key, HashFunction hash)
    : key_(key), hash_(hash), pool_(num_pages), index_(num_pages), idle_(num_pages) {}

Lease Cache::Open(absl::string_view salt, absl::Span<const int32_t> tokens) {
  Lease lease;
  lease.cache_ = this;
  lease.salt_ = std::string(salt);
  lease.chain_ = hash_(key_, salt);
  const int64_t limit = (static_cast<int64_t>(tokens.size()) - 1) / kPageTokens;
  for (int64_t i = 0; i < limit; ++i) {
    const Hash128 chain = Extend(lease.chain_, tokens.subspan(i * kPageTokens, kPageTokens));
    const PageId page = index_.Find(Content(lease, chain, tokens, i));
    if (page == kNoPage) break;
    Share(page);
    lease.pages_.push_back(page);
    lease.chain_ = chain;
  }
  lease.sealed_ = static_cast<int64_t>(lease.pages_.size());
  lease.cached_tokens_ = lease.sealed_ * kPageTokens;
  return lease;
}

bool Cache::Grow(Lease& lease, int64_t num_tokens) {
  NIBBLE_CHECK(lease.cache_ == this);
  const int64_t need = PagesFor(num_tokens) - static_cast<int64_t>(lease.pages_.size());
  if (need > available()) return false;
  for (int64_t i = 0; i < need; ++i) {
    if (pool_.num_free() == 0) EvictOldest();
    lease.pages_.push_back(pool_.Take());
  }
  return true;
}

void Cache::Seal(Lease& lease, absl::Span<const int32_t> tokens) {
  NIBBLE_CHECK(lease.cache_ == this);
  const int64_t full = static_cast<int64_t>(tokens.size()) / kPageTokens;
  NIBBLE_CHECK(full <= static_cast<int64_t>(lease.pages_.size()));
  while (lease.sealed_ < full) SealNext(lease, tokens);
}

void Cache::SealNext(Lease& lease, absl::Span<const int32_t> tokens) {
  const int64_t i = lease.sealed_++;
  PageId& page = lease.pages_[i];
  if (!lease.indexed_) return pool_.Seal(page);
  const Hash128 chain = Extend(lease.chain_, tokens.subspan(i * kPageTokens, kPageTokens));
  const PageContent content = Content(lease, chain, tokens, i);
  lease.chain_ = chain;
  if (const PageId equal = index_.Find(content); equal != kNoPage) {
    Share(equal);
    Release(std::exchange(page, equal));
    return;
  }
  pool_.Seal(page);
  lease.indexed_ = index_.Insert(page, content);
}

void Cache::Close(Lease& lease) {
  NIBBLE_CHECK(lease.cache_ == this);
  for (auto page = lease.pages_.rbegin(); page != lease.pages_.rend(); ++page) Release(*page);
  lease.cache_ = nullptr;
  lease = Lease();
}

void Cache::FlushIndex() {
  while (idle_.size() > 0) EvictOldest();
}

CacheStats Cache::stats() const {
  CacheStats stats;
  stats.total = pool_.num_pages();
  stats.free = pool_.num_free();
  stats.idle = idle_.size();
  stats.held = stats.total - stats.free - stats.idle;
  return stats;
}

Hash128 Cache::Extend(const Hash128& chain, absl::Span<const int32_t> page_tokens) const {
  std::array<char, sizeof(Hash128) + kPageTokens * sizeof(int32_t)> bytes;
  std::memcpy(bytes.data(), &chain, sizeof(chain));
  std::memcpy(bytes.data() + sizeof(chain), page_tokens.data(), kPageTokens * sizeof(int32_t));
  return hash_(key_, absl::string_view(bytes.data(), bytes.size()));
}

PageContent Cache::Content(const Lease& lease, const Hash128& chain, absl::Span<const int32_t> tokens,
                           int64_t page) const {
  return {chain, page == 0 ? kNoPage : lease.pages_[page - 1], lease.salt_,
          tokens.subspan(page * kPageTokens, kPageTokens)};
}

void Cache::Share(PageId page) {
  if (pool_.holders(page) == 0) idle_.Remove(page);
  pool_.Hold(page);
}

void Cache::Release(PageId page) {
  if (pool_.Drop(page) > 0) return;
  if (index_.Contains(page)) {
    idle_.PushBack(page);
  } else {
    pool_.Free(page);
  }
}

void Cache::EvictOldest() {
  const PageId page = idle_.front();
  idle_.Remove(page);
  index_.Erase(page);
  pool_.Free(page);
}

void Cache::CheckInvariants(absl::Span<const Lease* const> leases) const {
  std::vector<int32_t> holders(pool_.num_pages(), 0);
  for (const Lease* lease : leases) {
    for (size_t i = 0; i < lease->pages_.size(); ++i) {
      const PageId page = lease->pages_[i];
      ++holders[page];
      const bool sealed = static_cast<int64_t>(i) < lease->sealed_;
      NIBBLE_CHECK(pool_.state(page) == (sealed ? PageState::kSealed : PageState::kOpen));
      NIBBLE_CHECK(!sealed || !index_.Contains(page) ||
                   index_.parent(page) == (i == 0 ? kNoPage : lease->pages_[i - 1]));
    }
  }
  int64_t num_free = 0;
  for (PageId page = 0; page < pool_.num_pages(); ++page) {
    const PageState state = pool_.state(page);
    num_free += state == PageState::kFree;
    NIBBLE_CHECK(pool_.holders(page) == holders[page]);
    NIBBLE_CHECK(state != PageState::kOpen || holders[page] == 1);
    NIBBLE_CHECK(!index_.Contains(page) || state == PageState::kSealed);
    NIBBLE_CHECK(idle_.Contains(page) == (state == PageState::kSealed && holders[page] == 0));
    NIBBLE_CHECK(!idle_.Contains(page) || index_.Contains(page));
  }
  NIBBLE_CHECK(num_free == pool_.num_free());
  std::vector<bool> evicted(pool_.num_pages(), false);
  for (PageId page = idle_.front(); page != kNoPage; page = idle_.next(page)) {
    evicted[page] = true;
    const PageId parent = index_.parent(page);
    NIBBLE_CHECK(parent == kNoPage || (index_.Contains(parent) && !evicted[parent]));
  }
}

}  // namespace nibble::kv
