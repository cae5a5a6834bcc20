#include "kvcache/raw_slots.h"

#include <numeric>
#include <utility>

#include "kvcache/base/check.h"

namespace nibble::kv {

RawSlots::RawSlots(int64_t num_slots, int64_t num_pages)
    : num_slots_(num_slots), pages_(num_pages), free_(num_slots), twins_(num_pages) {
  std::iota(free_.rbegin(), free_.rend(), 0);
}

RawSlot RawSlots::Take(PageId page) {
  NIBBLE_CHECK(pages_[page].slot == kNoRawSlot);
  if (free_.empty()) Free(twins_.front());
  pages_[page] = {free_.back(), 1};
  free_.pop_back();
  return pages_[page].slot;
}

RawSlot RawSlots::Read(PageId page) {
  NIBBLE_CHECK(pages_[page].slot != kNoRawSlot);
  if (twins_.Contains(page)) twins_.Remove(page);
  ++pages_[page].readers;
  return pages_[page].slot;
}

void RawSlots::Drop(PageId page, Afterwards afterwards) {
  NIBBLE_CHECK(pages_[page].readers > 0);
  if (--pages_[page].readers > 0) return;
  if (afterwards == Afterwards::kTwin) twins_.PushBack(page);
  if (afterwards == Afterwards::kFree) Free(page);
}

void RawSlots::Free(PageId page) {
  NIBBLE_CHECK(pages_[page].readers == 0);
  if (pages_[page].slot == kNoRawSlot) return;
  if (twins_.Contains(page)) twins_.Remove(page);
  free_.push_back(std::exchange(pages_[page].slot, kNoRawSlot));
}

void RawSlots::Move(PageId from, PageId to) {
  NIBBLE_CHECK(pages_[to].slot == kNoRawSlot && !twins_.Contains(from));
  pages_[to] = std::exchange(pages_[from], {});
}

}  // namespace nibble::kv
