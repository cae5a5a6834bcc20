#include "kvcache/page_pool.h"

#include "kvcache/base/check.h"

namespace nibble::kv {

PagePool::PagePool(int64_t num_pages) : pages_(num_pages) {
  free_.reserve(num_pages);
  for (int64_t page = num_pages - 1; page >= 0; --page) free_.push_back(static_cast<PageId>(page));
}

PageId PagePool::Take() {
  NIBBLE_CHECK(!free_.empty());
  const PageId page = free_.back();
  free_.pop_back();
  pages_[page] = {PageState::kOpen, 1};
  return page;
}

void PagePool::Seal(PageId page) {
  NIBBLE_CHECK(pages_[page].state == PageState::kOpen);
  pages_[page].state = PageState::kSealed;
}

void PagePool::Hold(PageId page) {
  NIBBLE_CHECK(pages_[page].state == PageState::kSealed);
  ++pages_[page].holders;
}

int32_t PagePool::Drop(PageId page) {
  NIBBLE_CHECK(pages_[page].holders > 0);
  return --pages_[page].holders;
}

void PagePool::Free(PageId page) {
  NIBBLE_CHECK(pages_[page].state != PageState::kFree && pages_[page].holders == 0);
  pages_[page].state = PageState::kFree;
  free_.push_back(page);
}

}  // namespace nibble::kv
