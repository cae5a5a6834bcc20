// Accounting of the KV cache: which sequence holds which pages, and which pages can be shared. Ids and counts; the
// bytes are the engine's.
//
// A page is free, open (one lease, being filled) or sealed (immutable, any number of leases). Sealed pages are indexed
// by content; one that no lease holds stays *idle* in the index until its place is needed. Nothing is ever copied: a
// lease that seals a page equal to an indexed one takes the indexed page and gives its own back, which is sound because
// a page's bytes are a function of (salt, tokens) alone (law 1).
//
// A lease holds whole chains from position 0, and gives its pages back last first. So a page becomes idle after all
// pages that continue it, and evicting the longest idle one first never cuts a chain in the middle.
//
// Thread: one owner, the loop thread. Errors: none but `false` from Grow.
#ifndef NIBBLE_KVCACHE_CACHE_H_
#define NIBBLE_KVCACHE_CACHE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kvcache/idle_list.h"
#include "kvcache/page.h"
#include "kvcache/page_pool.h"
#include "kvcache/prefix_index.h"
#include "kvcache/siphash.h"

namespace nibble::kv {

class Cache;

// One sequence's hold on its pages, from position 0. Move-only; gives everything back when destroyed. The cache must
// outlive it.
class Lease {
 public:
  Lease() = default;
  Lease(Lease&& other) noexcept { *this = std::move(other); }
  Lease& operator=(Lease&& other) noexcept;
  ~Lease();

  // The page table. Stays put until the next Grow, Seal or Close of this lease.
  absl::Span<const PageId> pages() const { return pages_; }
  // Tokens found in the index by Open: positions [0, cached_tokens()) need no computing.
  int64_t cached_tokens() const { return cached_tokens_; }
  int64_t sealed_pages() const { return sealed_; }

 private:
  friend class Cache;
  Cache* cache_ = nullptr;
  std::string salt_;
  std::vector<PageId> pages_;  // sealed ones, then open ones
  int64_t sealed_ = 0;
  int64_t cached_tokens_ = 0;
  Hash128 chain_;        // over the sealed pages
  bool indexed_ = true;  // false from the first sealed page on that the index could not take
};

struct CacheStats {
  int64_t total = 0;
  int64_t free = 0;  // in no lease and not indexed
  int64_t idle = 0;  // in no lease, indexed: free on demand
  int64_t held = 0;  // in some lease
};

class Cache {
 public:
  using HashFunction = Hash128 (*)(const Hash128& key, absl::string_view bytes);

  // `key` should be random per process: collisions of the index cannot be prepared without it.
  Cache(int64_t num_pages, const Hash128& key, HashFunction hash = SipHash128);
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  // A lease on the longest indexed run of whole pages that `tokens` starts with, at most tokens.size() - 1 tokens, so
  // that one is left to compute. Only pages sealed under the same salt are found. O(tokens).
  Lease Open(absl::string_view salt, absl::Span<const int32_t> tokens);
  // Adds open pages until the lease covers `num_tokens`, evicting idle pages as needed. False where there are not
  // enough: then nothing has changed.
  bool Grow(Lease& lease, int64_t num_tokens);
  // Seals and indexes the full pages among `tokens`: the sequence's tokens from position 0 whose K and V are written.
  void Seal(Lease& lease, absl::Span<const int32_t> tokens);
  // Gives all pages back; the lease is as new.
  void Close(Lease& lease);
  // Frees all idle pages.
  void FlushIndex();

  // Pages that Grow can give out now.
  int64_t available() const { return pool_.num_free() + idle_.size(); }
  CacheStats stats() const;
  PageState state(PageId page) const { return pool_.state(page); }
  int32_t holders(PageId page) const { return pool_.holders(page); }
  // CHECKs that states, holders, index and idle list agree, given every live lease. O(pages).
  void CheckInvariants(absl::Span<const Lease* const> leases) const;

 private:
  Hash128 Extend(const Hash128& chain, absl::Span<const int32_t> page_tokens) const;
  PageContent Content(const Lease& lease, const Hash128& chain, absl::Span<const int32_t> tokens, int64_t page) const;
  void SealNext(Lease& lease, absl::Span<const int32_t> tokens);
  void Share(PageId page);
  void Release(PageId page);
  void EvictOldest();

  const Hash128 key_;
  const HashFunction hash_;
  PagePool pool_;
  PrefixIndex index_;
  IdleList idle_;
};

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_CACHE_H_
