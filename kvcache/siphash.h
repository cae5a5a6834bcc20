// SipHash-2-4 with a 128-bit result (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012): a keyed hash
// whose collisions cannot be found without the key. Pure; any thread.
#ifndef NIBBLE_KVCACHE_SIPHASH_H_
#define NIBBLE_KVCACHE_SIPHASH_H_

#include <cstdint>
#include <utility>

#include "absl/strings/string_view.h"

namespace nibble::kv {

// 128 bits as two words, the low one first.
struct Hash128 {
  uint64_t low = 0;
  uint64_t high = 0;

  friend bool operator==(const Hash128& a, const Hash128& b) = default;
  template <typename H>
  friend H AbslHashValue(H state, const Hash128& hash) {
    return H::combine(std::move(state), hash.low, hash.high);
  }
};

Hash128 SipHash128(const Hash128& key, absl::string_view bytes);

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_SIPHASH_H_
