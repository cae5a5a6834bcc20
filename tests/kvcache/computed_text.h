// Texts, and a sequence that computes one, for tests of the cache.
#ifndef NIBBLE_TESTS_KVCACHE_COMPUTED_TEXT_H_
#define NIBBLE_TESTS_KVCACHE_COMPUTED_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kvcache/cache.h"

namespace nibble::kv {

using Tokens = std::vector<int32_t>;

inline constexpr Hash128 kKey = {11, 22};

inline Tokens Text(int64_t size, int32_t first = 0) {
  Tokens tokens;
  for (int64_t i = 0; i < size; ++i) tokens.push_back(first + static_cast<int32_t>(i % 97));
  return tokens;
}

// Opens, grows and seals all of `tokens`, as a sequence that computes its prompt does.
inline Lease Compute(Cache& cache, const std::string& salt, const Tokens& tokens) {
  Lease lease = cache.Open(salt, tokens);
  EXPECT_TRUE(cache.Grow(lease, static_cast<int64_t>(tokens.size())));
  EXPECT_TRUE(cache.GrowRaw(lease, lease.cached_tokens(), static_cast<int64_t>(tokens.size())));
  cache.Seal(lease, tokens);
  return lease;
}

}  // namespace nibble::kv

#endif  // NIBBLE_TESTS_KVCACHE_COMPUTED_TEXT_H_
