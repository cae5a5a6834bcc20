// The unit of the KV cache: 32 consecutive tokens of one sequence, all layers and KV heads.
#ifndef NIBBLE_KVCACHE_PAGE_H_
#define NIBBLE_KVCACHE_PAGE_H_

#include <cstdint>

namespace nibble::kv {

inline constexpr int kPageTokens = 32;

// Index of a page in the pool, 0 .. number of pages - 1. The engine finds the page's bytes by it.
using PageId = int32_t;
inline constexpr PageId kNoPage = -1;

// Index of a raw slot: where a page's raw form lies while somebody may read it, apart from its sealed form.
using RawSlot = int32_t;
inline constexpr RawSlot kNoRawSlot = -1;

// Pages that `tokens` tokens occupy.
constexpr int64_t PagesFor(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

// How much a cache holds, and which pages are read raw: a query in page i reads page j raw where j >= i - window_pages
// or j < sink_pages, and sealed otherwise (the page-banded rule). Without raw slots every page is raw in its own place.
struct CacheShape {
  int64_t num_pages = 0;
  int64_t raw_slots = 0;
  int window_pages = 0;
  int sink_pages = 0;

  bool in_place() const { return raw_slots == 0; }
  // Raw forms that a sequence holds between steps: its sinks, the window and the page being filled.
  int64_t raw_slots_per_sequence() const { return in_place() ? 0 : sink_pages + window_pages + 1; }
  // Whether a sequence that has computed `tokens` tokens will read page j raw from now on.
  bool ReadsRaw(int64_t j, int64_t tokens) const { return j < sink_pages || j >= tokens / kPageTokens - window_pages; }
};

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_PAGE_H_
