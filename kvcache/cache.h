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
// Beside its pages a lease holds the raw slots of those that it reads raw by the page-banded rule (CacheShape). A
// prefix hit ends at the deepest boundary between pages where the raw forms that the rule asks for are at hand: so raw
// forms stay as twins at *resume points*, which are the end of a prompt, the end of a lease, and a boundary where a hit
// would have ended had its raw forms been there.
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
#include "kvcache/index_events.h"
#include "kvcache/page.h"
#include "kvcache/page_pool.h"
#include "kvcache/prefix_index.h"
#include "kvcache/raw_slots.h"
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

  // The page table, and beside each page the slot of its raw form where this lease holds it, else kNoRawSlot. Both stay
  // put until the next Grow, GrowRaw, Seal or Close of this lease.
  absl::Span<const PageId> pages() const { return pages_; }
  absl::Span<const RawSlot> raw_slots() const { return raw_; }
  // Tokens found in the index by Open: positions [0, cached_tokens()) need no computing.
  int64_t cached_tokens() const { return cached_tokens_; }
  int64_t sealed_pages() const { return sealed_; }

 private:
  friend class Cache;
  Cache* cache_ = nullptr;
  std::string salt_;
  std::vector<PageId> pages_;  // sealed ones, then open ones
  std::vector<RawSlot> raw_;   // parallel to pages_
  int64_t raw_held_ = 0;       // of raw_
  // Resume points, as pages before them: the end of the tokens given to Open, and where a hit could not end.
  int64_t end_ = 0, parted_ = 0;
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
  int64_t raw_slots = 0;
  int64_t raw_free = 0;
  int64_t raw_twins = 0;  // that nobody reads: free on demand
};

class Cache {
 public:
  using HashFunction = Hash128 (*)(const Hash128& key, absl::string_view bytes);

  // `key` should be random per process: collisions of the index cannot be prepared without it.
  Cache(const CacheShape& shape, const Hash128& key, HashFunction hash = SipHash128);
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  // A lease on the longest indexed run of whole pages that `tokens` starts with, at most tokens.size() - 1 tokens, so
  // that one is left to compute. Only pages sealed under the same salt are found. O(tokens). REQUIRES: num_leases() <
  // max_leases().
  Lease Open(absl::string_view salt, absl::Span<const int32_t> tokens);
  // Adds open pages until the lease covers `num_tokens`, evicting idle pages as needed. False where there are not
  // enough: then nothing has changed.
  bool Grow(Lease& lease, int64_t num_tokens);
  // Adds the raw slots for a step over the lease's tokens [first, last): for the pages that will be read raw once it is
  // done, and where there is room for those before a resume point. False, and nothing changed, where a step of so many
  // pages would take other leases' slots; never false where first and last - 1 lie in one page. Pages without a slot
  // live only as long as the step. REQUIRES: Grow(last).
  bool GrowRaw(Lease& lease, int64_t first, int64_t last);
  // Seals and indexes the full pages among `tokens`: the sequence's tokens from position 0 whose K and V are written.
  // Gives back the raw slots that the lease has no more use for.
  void Seal(Lease& lease, absl::Span<const int32_t> tokens);
  // Gives all pages back; the lease is as new.
  void Close(Lease& lease);
  // Frees all idle pages.
  void FlushIndex();

  // Records what is indexed and evicted from now on, where it is asked to.
  IndexEvents& events() { return events_; }
  // What is indexed now under the salt that is recorded.
  std::vector<IndexEvent> IndexedPages() const { return events_.Indexed(index_); }

  // Pages that Grow can give out now.
  int64_t available() const { return pool_.num_free() + idle_.size(); }
  // Leases in being, and how many the raw slots are for.
  int64_t num_leases() const { return num_leases_; }
  int64_t max_leases() const;
  const CacheShape& shape() const { return shape_; }
  CacheStats stats() const;
  PageState state(PageId page) const { return pool_.state(page); }
  int32_t holders(PageId page) const { return pool_.holders(page); }
  // CHECKs that states, holders, index and idle list agree, given every live lease. O(pages).
  void CheckInvariants(absl::Span<const Lease* const> leases) const;

 private:
  Hash128 Extend(const Hash128& chain, absl::Span<const int32_t> page_tokens) const;
  PageContent Content(const Lease& lease, const Hash128& chain, absl::Span<const int32_t> tokens, int64_t page) const;
  std::vector<PageId> FindChain(Lease& lease, absl::Span<const int32_t> tokens, std::vector<Hash128>& chains) const;
  int64_t DeepestResumable(absl::Span<const PageId> pages) const;
  void SealNext(Lease& lease, absl::Span<const int32_t> tokens);
  void TakeEqual(Lease& lease, int64_t i, PageId equal);
  void Share(PageId page);
  void TakeRaw(Lease& lease, int64_t i);
  void ReadRaw(Lease& lease, int64_t i);
  void DropRaw(Lease& lease, int64_t i);
  RawSlots::Afterwards AfterDrop(const Lease& lease, int64_t i) const;
  bool KeepsTwin(const Lease& lease, int64_t i) const;
  int64_t ExtraRaw(const Lease& lease) const;
  bool HasRawFor(const Lease& lease, size_t count) const;
  void CheckLease(const Lease& lease) const;
  void CheckPages(const std::vector<int32_t>& holders, const std::vector<int32_t>& readers) const;
  bool IsSink(PageId page) const;
  void CheckEvictionOrder() const;
  void Release(PageId page);
  void EvictOldest();

  const CacheShape shape_;
  const Hash128 key_;
  const HashFunction hash_;
  int64_t num_leases_ = 0;
  int64_t extra_raw_ = 0;  // held by leases above raw_slots_per_sequence(), for the step in flight
  PagePool pool_;
  RawSlots raw_;
  PrefixIndex index_;
  IdleList idle_;
  IndexEvents events_;
};

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_CACHE_H_
