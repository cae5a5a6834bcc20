// How the memory of the KV cache is divided.
#ifndef NIBBLE_ENGINE_KV_MEMORY_H_
#define NIBBLE_ENGINE_KV_MEMORY_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "kvcache/page.h"

namespace nibble::engine {

// What the parts of a cache take.
struct KvCosts {
  int64_t page_bytes = 0;      // of a sealed page, or of any where pages are raw in place
  int64_t raw_page_bytes = 0;  // of a raw slot; 0: pages are raw in place
  int64_t table_bytes = 0;     // codebooks and transforms
  int64_t passing_bytes = 0;   // raw places of pages that live as long as a step
  int window_pages = 0;
  int sink_pages = 0;
};

// As many pages and raw slots as fit `bytes`, tables and passing places counted: raw slots for so many sequences of
// min(context_tokens, 1024) tokens as fit with their pages, at most `max_sequences`; pages for all the rest.
// INVALID_ARGUMENT where not even one page fits.
absl::StatusOr<kv::CacheShape> DivideKvMemory(int64_t bytes, const KvCosts& costs, int64_t context_tokens,
                                              int64_t max_sequences);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_KV_MEMORY_H_
