// Memory asked for before it is read, where the order of reading is known and the hardware cannot guess it.
#ifndef NIBBLE_KVCACHE_SIMD_PREFETCH_H_
#define NIBBLE_KVCACHE_SIMD_PREFETCH_H_

#include <cstdint>

namespace nibble::simd {

// Into the second-level cache: what a kernel has at hand fills the first, and comes from the second soon enough.
inline void PrefetchBytes(const void* first, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(first) + i, 0, 2);
}

}  // namespace nibble::simd

#endif  // NIBBLE_KVCACHE_SIMD_PREFETCH_H_
