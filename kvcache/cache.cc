#include "kvcache/cache.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include "kvcache/base/check.h"

namespace nibble::kv {

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  if (cache_ != nullptr) cache_->Close(*this);
  cache_ = std::exchange(other.cache_, nullptr);
  salt_ = std::move(other.salt_);
  pages_ = std::exchange(other.pages_, {});
  raw_ = std::exchange(other.raw_, {});
  raw_held_ = std::exchange(other.raw_held_, 0);
  end_ = std::exchange(other.end_, 0);
  parted_ = std::exchange(other.parted_, 0);
  sealed_ = std::exchange(other.sealed_, 0);
  cached_tokens_ = std::exchange(other.cached_tokens_, 0);
  chain_ = other.chain_;
  indexed_ = other.indexed_;
  return *this;
}

Lease::~Lease() {
  if (cache_ != nullptr) cache_->Close(*this);
}

Cache::Cache(const CacheShape& shape, const Hash128& key, HashFunction hash)
    : shape_(shape),
      key_(key),
      hash_(hash),
      pool_(shape.num_pages),
      raw_(shape.raw_slots, shape.num_pages),
      index_(shape.num_pages),
      idle_(shape.num_pages) {
  NIBBLE_CHECK(max_leases() >= 1);
}

int64_t Cache::max_leases() const {
  if (shape_.in_place()) return std::numeric_limits<int64_t>::max();
  // Beside them there is always room for one prompt's chunk, which fills a new window while the old one is read.
  return (shape_.raw_slots - shape_.window_pages - 1) / shape_.raw_slots_per_sequence();
}

Lease Cache::Open(absl::string_view salt, absl::Span<const int32_t> tokens) {
  NIBBLE_CHECK(num_leases_ < max_leases());
  ++num_leases_;
  Lease lease;
  lease.cache_ = this;
  lease.salt_ = std::string(salt);
  lease.chain_ = hash_(key_, salt);
  lease.end_ = std::max<int64_t>(0, (static_cast<int64_t>(tokens.size()) - 1) / kPageTokens);
  std::vector<Hash128> chains;
  const std::vector<PageId> found = FindChain(lease, tokens, chains);
  const int64_t count = DeepestResumable(found);
  lease.parted_ = static_cast<int64_t>(found.size());
  lease.pages_.assign(found.begin(), found.begin() + count);
  lease.raw_.assign(count, kNoRawSlot);
  lease.sealed_ = count;
  lease.cached_tokens_ = count * kPageTokens;
  if (count > 0) lease.chain_ = chains[count - 1];
  for (int64_t i = 0; i < count; ++i) {
    Share(lease.pages_[i]);
    if (!shape_.in_place() && shape_.ReadsRaw(i, lease.cached_tokens_)) ReadRaw(lease, i);
  }
  return lease;
}

// The longest indexed run of whole pages that leaves a token to compute, and the chain hash up to each.
std::vector<PageId> Cache::FindChain(Lease& lease, absl::Span<const int32_t> tokens,
                                     std::vector<Hash128>& chains) const {
  std::vector<PageId> found;
  Hash128 chain = lease.chain_;
  for (int64_t i = 0; i < lease.end_; ++i) {
    chain = Extend(chain, tokens.subspan(i * kPageTokens, kPageTokens));
    const PageContent content = {chain, i == 0 ? kNoPage : found.back(), lease.salt_,
                                 tokens.subspan(i * kPageTokens, kPageTokens)};
    const PageId page = index_.Find(content);
    if (page == kNoPage) break;
    found.push_back(page);
    chains.push_back(chain);
  }
  return found;
}

// How many of the pages, from the first on, a lease can begin with and have every raw form that it will read.
int64_t Cache::DeepestResumable(absl::Span<const PageId> pages) const {
  int64_t count = static_cast<int64_t>(pages.size());
  if (shape_.in_place()) return count;
  const auto resumable = [&](int64_t boundary) {
    for (int64_t i = std::max<int64_t>(0, boundary - shape_.window_pages); i < boundary; ++i) {
      if (raw_.slot(pages[i]) == kNoRawSlot) return false;
    }
    return true;
  };
  while (!resumable(count)) --count;
  return count;
}

bool Cache::Grow(Lease& lease, int64_t num_tokens) {
  NIBBLE_CHECK(lease.cache_ == this);
  const int64_t need = PagesFor(num_tokens) - static_cast<int64_t>(lease.pages_.size());
  if (need > available()) return false;
  for (int64_t i = 0; i < need; ++i) {
    if (pool_.num_free() == 0) EvictOldest();
    lease.pages_.push_back(pool_.Take());
    lease.raw_.push_back(kNoRawSlot);
  }
  return true;
}

bool Cache::GrowRaw(Lease& lease, int64_t first, int64_t last) {
  NIBBLE_CHECK(lease.cache_ == this && PagesFor(last) <= static_cast<int64_t>(lease.pages_.size()));
  if (shape_.in_place()) return true;
  std::vector<int64_t> need, wanted;
  for (int64_t i = first / kPageTokens; i < PagesFor(last); ++i) {
    if (lease.raw_[i] != kNoRawSlot) continue;
    if (shape_.ReadsRaw(i, last))
      need.push_back(i);
    else if (KeepsTwin(lease, i))
      wanted.push_back(i);
  }
  if (!HasRawFor(lease, need.size())) return false;
  for (const int64_t i : need) TakeRaw(lease, i);
  if (!HasRawFor(lease, wanted.size())) return true;
  for (const int64_t i : wanted) TakeRaw(lease, i);
  return true;
}

// Whether the lease can hold `count` more raw slots until the step is done.
bool Cache::HasRawFor(const Lease& lease, size_t count) const {
  const int64_t held = lease.raw_held_ + static_cast<int64_t>(count);
  const int64_t more = std::max<int64_t>(0, held - shape_.raw_slots_per_sequence()) - ExtraRaw(lease);
  return more == 0 || more <= shape_.raw_slots - num_leases_ * shape_.raw_slots_per_sequence() - extra_raw_;
}

void Cache::Seal(Lease& lease, absl::Span<const int32_t> tokens) {
  NIBBLE_CHECK(lease.cache_ == this);
  const int64_t full = static_cast<int64_t>(tokens.size()) / kPageTokens;
  NIBBLE_CHECK(full <= static_cast<int64_t>(lease.pages_.size()));
  while (lease.sealed_ < full) SealNext(lease, tokens);
  for (int64_t i = 0; i < full; ++i) {
    if (lease.raw_[i] != kNoRawSlot && !shape_.ReadsRaw(i, static_cast<int64_t>(tokens.size()))) DropRaw(lease, i);
  }
}

void Cache::SealNext(Lease& lease, absl::Span<const int32_t> tokens) {
  const int64_t i = lease.sealed_++;
  const PageId page = lease.pages_[i];
  if (!lease.indexed_) return pool_.Seal(page);
  const Hash128 chain = Extend(lease.chain_, tokens.subspan(i * kPageTokens, kPageTokens));
  const PageContent content = Content(lease, chain, tokens, i);
  lease.chain_ = chain;
  if (const PageId equal = index_.Find(content); equal != kNoPage) return TakeEqual(lease, i, equal);
  pool_.Seal(page);
  lease.indexed_ = index_.Insert(page, content);
  if (lease.indexed_) events_.OnInserted(index_, page);
}

// The raw form goes along where the other page has none.
void Cache::TakeEqual(Lease& lease, int64_t i, PageId equal) {
  const PageId own = lease.pages_[i];
  Share(equal);
  if (lease.raw_[i] != kNoRawSlot && raw_.slot(equal) == kNoRawSlot) {
    raw_.Move(own, equal);
  } else if (lease.raw_[i] != kNoRawSlot) {
    raw_.Drop(own, RawSlots::Afterwards::kFree);
    lease.raw_[i] = raw_.Read(equal);
  }
  lease.pages_[i] = equal;
  Release(own);
}

void Cache::Close(Lease& lease) {
  NIBBLE_CHECK(lease.cache_ == this);
  lease.end_ = lease.sealed_;
  for (int64_t i = static_cast<int64_t>(lease.pages_.size()) - 1; i >= 0; --i) {
    if (lease.raw_[i] != kNoRawSlot) DropRaw(lease, i);
    Release(lease.pages_[i]);
  }
  --num_leases_;
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
  stats.raw_slots = raw_.num_slots();
  stats.raw_free = raw_.num_free();
  stats.raw_twins = raw_.num_twins();
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
    raw_.Free(page);
    pool_.Free(page);
  }
}

int64_t Cache::ExtraRaw(const Lease& lease) const {
  return std::max<int64_t>(0, lease.raw_held_ - shape_.raw_slots_per_sequence());
}

void Cache::TakeRaw(Lease& lease, int64_t i) {
  // Where every slot is some sink's, chains go until one is free.
  while (!raw_.CanTake()) EvictOldest();
  extra_raw_ -= ExtraRaw(lease);
  lease.raw_[i] = raw_.Take(lease.pages_[i]);
  ++lease.raw_held_;
  extra_raw_ += ExtraRaw(lease);
}

void Cache::ReadRaw(Lease& lease, int64_t i) {
  lease.raw_[i] = raw_.Read(lease.pages_[i]);
  ++lease.raw_held_;
}

void Cache::DropRaw(Lease& lease, int64_t i) {
  extra_raw_ -= ExtraRaw(lease);
  raw_.Drop(lease.pages_[i], AfterDrop(lease, i));
  lease.raw_[i] = kNoRawSlot;
  --lease.raw_held_;
  extra_raw_ += ExtraRaw(lease);
}

RawSlots::Afterwards Cache::AfterDrop(const Lease& lease, int64_t i) const {
  if (!index_.Contains(lease.pages_[i])) return RawSlots::Afterwards::kFree;
  if (i < shape_.sink_pages) return RawSlots::Afterwards::kPinned;
  return KeepsTwin(lease, i) ? RawSlots::Afterwards::kTwin : RawSlots::Afterwards::kFree;
}

// Whether page i is read raw from one of the lease's resume points on.
bool Cache::KeepsTwin(const Lease& lease, int64_t i) const {
  const auto in_window_of = [&](int64_t boundary) { return i < boundary && i >= boundary - shape_.window_pages; };
  return in_window_of(lease.end_) || in_window_of(lease.parted_);
}

void Cache::EvictOldest() {
  const PageId page = idle_.front();
  idle_.Remove(page);
  events_.OnErasing(index_, page);
  index_.Erase(page);
  raw_.Free(page);
  pool_.Free(page);
}

void Cache::CheckInvariants(absl::Span<const Lease* const> leases) const {
  std::vector<int32_t> holders(pool_.num_pages(), 0), readers(pool_.num_pages(), 0);
  int64_t extra = 0, in_being = 0;
  for (const Lease* lease : leases) {
    CheckLease(*lease);
    in_being += lease->cache_ != nullptr;
    extra += ExtraRaw(*lease);
    for (size_t i = 0; i < lease->pages_.size(); ++i) {
      ++holders[lease->pages_[i]];
      readers[lease->pages_[i]] += lease->raw_[i] != kNoRawSlot;
    }
  }
  NIBBLE_CHECK(in_being == num_leases_ && extra == extra_raw_);
  CheckPages(holders, readers);
  CheckEvictionOrder();
}

void Cache::CheckLease(const Lease& lease) const {
  NIBBLE_CHECK(lease.raw_.size() == lease.pages_.size());
  int64_t raw_held = 0;
  for (size_t i = 0; i < lease.pages_.size(); ++i) {
    const PageId page = lease.pages_[i];
    const bool sealed = static_cast<int64_t>(i) < lease.sealed_, raw = lease.raw_[i] != kNoRawSlot;
    raw_held += raw;
    NIBBLE_CHECK(pool_.state(page) == (sealed ? PageState::kSealed : PageState::kOpen));
    NIBBLE_CHECK(!sealed || !index_.Contains(page) || index_.parent(page) == (i == 0 ? kNoPage : lease.pages_[i - 1]));
    NIBBLE_CHECK(!raw || raw_.slot(page) == lease.raw_[i]);
    const bool reads_raw = !shape_.in_place() && shape_.ReadsRaw(static_cast<int64_t>(i), lease.sealed_ * kPageTokens);
    NIBBLE_CHECK(!sealed || raw == reads_raw);
  }
  NIBBLE_CHECK(raw_held == lease.raw_held_);
}

void Cache::CheckPages(const std::vector<int32_t>& holders, const std::vector<int32_t>& readers) const {
  int64_t num_free = 0;
  std::vector<int32_t> uses(raw_.num_slots(), 0);
  for (PageId page = 0; page < pool_.num_pages(); ++page) {
    const PageState state = pool_.state(page);
    const bool indexed = index_.Contains(page);
    num_free += state == PageState::kFree;
    NIBBLE_CHECK(pool_.holders(page) == holders[page] && raw_.readers(page) == readers[page]);
    NIBBLE_CHECK(state != PageState::kOpen || holders[page] == 1);
    NIBBLE_CHECK(!indexed || state == PageState::kSealed);
    NIBBLE_CHECK(idle_.Contains(page) == (state == PageState::kSealed && holders[page] == 0));
    NIBBLE_CHECK(!idle_.Contains(page) || indexed);
    if (raw_.slot(page) == kNoRawSlot) continue;
    ++uses[raw_.slot(page)];
    // Nobody reads it: then it waits for a hit, as a twin or as the sink of an indexed chain.
    NIBBLE_CHECK(readers[page] > 0 || indexed);
    NIBBLE_CHECK(!raw_.IsTwin(page) || readers[page] == 0);
    NIBBLE_CHECK(readers[page] > 0 || raw_.IsTwin(page) || IsSink(page));
  }
  NIBBLE_CHECK(num_free == pool_.num_free());
  NIBBLE_CHECK(std::count(uses.begin(), uses.end(), 0) == raw_.num_free());
  NIBBLE_CHECK(std::count(uses.begin(), uses.end(), 1) + raw_.num_free() == raw_.num_slots());
}

bool Cache::IsSink(PageId page) const {
  int64_t before = 0;
  for (PageId at = index_.parent(page); at != kNoPage; at = index_.parent(at)) ++before;
  return before < shape_.sink_pages;
}

void Cache::CheckEvictionOrder() const {
  std::vector<bool> evicted(pool_.num_pages(), false);
  for (PageId page = idle_.front(); page != kNoPage; page = idle_.next(page)) {
    evicted[page] = true;
    const PageId parent = index_.parent(page);
    NIBBLE_CHECK(parent == kNoPage || (index_.Contains(parent) && !evicted[parent]));
    NIBBLE_CHECK(shape_.in_place() || !IsSink(page) || raw_.slot(page) != kNoRawSlot);
  }
}

}  // namespace nibble::kv
