// The pages themselves, as states and counts: free, open (one holder, being filled) or sealed (immutable, any number of
// holders). Ids, not bytes. Thread: one owner, the loop thread.
#ifndef NIBBLE_KVCACHE_PAGE_POOL_H_
#define NIBBLE_KVCACHE_PAGE_POOL_H_

#include <cstdint>
#include <vector>

#include "kvcache/page.h"

namespace nibble::kv {

enum class PageState : uint8_t { kFree, kOpen, kSealed };

class PagePool {
 public:
  explicit PagePool(int64_t num_pages);

  // A free page becomes open with one holder. REQUIRES: num_free() > 0.
  PageId Take();
  // REQUIRES: open.
  void Seal(PageId page);
  // One more holder. REQUIRES: sealed.
  void Hold(PageId page);
  // One holder less; returns how many are left.
  int32_t Drop(PageId page);
  // REQUIRES: not free, no holder.
  void Free(PageId page);

  PageState state(PageId page) const { return pages_[page].state; }
  int32_t holders(PageId page) const { return pages_[page].holders; }
  int64_t num_pages() const { return static_cast<int64_t>(pages_.size()); }
  int64_t num_free() const { return static_cast<int64_t>(free_.size()); }

 private:
  struct Page {
    PageState state = PageState::kFree;
    int32_t holders = 0;
  };
  std::vector<Page> pages_;
  std::vector<PageId> free_;  // the last freed is taken first
};

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_PAGE_POOL_H_
