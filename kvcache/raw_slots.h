// Which pages have a raw form beside their sealed one, and how many leases read it.
//
// A raw form that no lease reads any more may stay as a *twin*, so that a prefix hit can resume where the page-banded
// rule needs it; the twin unread for longest goes when its place is needed. A *pinned* one (of a sink page, which has
// no sealed form) stays as long as its page. Thread: one owner, the loop thread.
#ifndef NIBBLE_KVCACHE_RAW_SLOTS_H_
#define NIBBLE_KVCACHE_RAW_SLOTS_H_

#include <cstdint>
#include <vector>

#include "kvcache/idle_list.h"
#include "kvcache/page.h"

namespace nibble::kv {

class RawSlots {
 public:
  // What becomes of a raw form when its last reader is gone.
  enum class Afterwards { kFree, kTwin, kPinned };

  RawSlots(int64_t num_slots, int64_t num_pages);

  // kNoRawSlot where the page has no raw form.
  RawSlot slot(PageId page) const { return pages_[page].slot; }
  int32_t readers(PageId page) const { return pages_[page].readers; }

  // Whether Take can succeed: a slot is free, or a twin can go.
  bool CanTake() const { return !free_.empty() || twins_.size() > 0; }
  // A slot for a page without one, with one reader. REQUIRES: CanTake().
  RawSlot Take(PageId page);
  // One more reader. REQUIRES: the page has a slot.
  RawSlot Read(PageId page);
  // One reader less.
  void Drop(PageId page, Afterwards afterwards);
  // The page goes; so does its raw form. REQUIRES: no reader.
  void Free(PageId page);
  // `to`, which has none, gets the slot and the readers of `from`.
  void Move(PageId from, PageId to);

  int64_t num_slots() const { return num_slots_; }
  int64_t num_free() const { return static_cast<int64_t>(free_.size()); }
  int64_t num_twins() const { return twins_.size(); }
  bool IsTwin(PageId page) const { return twins_.Contains(page); }

 private:
  struct Page {
    RawSlot slot = kNoRawSlot;
    int32_t readers = 0;
  };
  const int64_t num_slots_;
  std::vector<Page> pages_;
  std::vector<RawSlot> free_;  // the last freed is taken first
  IdleList twins_;
};

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_RAW_SLOTS_H_
