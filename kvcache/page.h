// The unit of the KV cache: 32 consecutive tokens of one sequence, all layers and KV heads.
#ifndef NIBBLE_KVCACHE_PAGE_H_
#define NIBBLE_KVCACHE_PAGE_H_

#include <cstdint>

namespace nibble::kv {

inline constexpr int kPageTokens = 32;

// Index of a page in the pool, 0 .. number of pages - 1. The engine finds the page's bytes by it.
using PageId = int32_t;
inline constexpr PageId kNoPage = -1;

// Pages that `tokens` tokens occupy.
constexpr int64_t PagesFor(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_PAGE_H_
