#include "kvcache/idle_list.h"

#include "kvcache/base/check.h"

namespace nibble::kv {

IdleList::IdleList(int64_t num_pages) : links_(num_pages + 1) { links_[End()] = {End(), End()}; }

void IdleList::PushBack(PageId page) {
  NIBBLE_CHECK(!Contains(page));
  const PageId last = links_[End()].previous;
  links_[page] = {last, End()};
  links_[last].next = page;
  links_[End()].previous = page;
  ++size_;
}

void IdleList::Remove(PageId page) {
  NIBBLE_CHECK(Contains(page));
  const Link link = links_[page];
  links_[link.previous].next = link.next;
  links_[link.next].previous = link.previous;
  links_[page] = {};
  --size_;
}

}  // namespace nibble::kv
