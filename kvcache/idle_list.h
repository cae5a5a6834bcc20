// Pages that only the prefix index keeps, in the order in which they became idle: an intrusive list, every verb O(1).
// Thread: one owner.
#ifndef NIBBLE_KVCACHE_IDLE_LIST_H_
#define NIBBLE_KVCACHE_IDLE_LIST_H_

#include <cstdint>
#include <vector>

#include "kvcache/page.h"

namespace nibble::kv {

class IdleList {
 public:
  explicit IdleList(int64_t num_pages);

  // REQUIRES: absent.
  void PushBack(PageId page);
  // REQUIRES: present.
  void Remove(PageId page);

  // The one idle longest, or kNoPage.
  PageId front() const { return At(links_[End()].next); }
  // The one after `page`, or kNoPage. REQUIRES: present.
  PageId next(PageId page) const { return At(links_[page].next); }
  bool Contains(PageId page) const { return links_[page].next != kNoPage; }
  int64_t size() const { return size_; }

 private:
  struct Link {
    PageId previous = kNoPage;
    PageId next = kNoPage;
  };
  // The list is a ring closed by one link more than there are pages.
  PageId End() const { return static_cast<PageId>(links_.size() - 1); }
  PageId At(PageId link) const { return link == End() ? kNoPage : link; }

  std::vector<Link> links_;
  int64_t size_ = 0;
};

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_IDLE_LIST_H_
