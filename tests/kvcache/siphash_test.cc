#include "kvcache/siphash.h"

#include <string>

#include "gtest/gtest.h"

namespace nibble::kv {
namespace {

// Key 00 01 … 0f and input 00 01 …, as in the vectors published with the reference implementation.
const Hash128 kKey = {0x0706050403020100, 0x0f0e0d0c0b0a0908};

std::string CountingBytes(int n) {
  std::string bytes;
  for (int i = 0; i < n; ++i) bytes.push_back(static_cast<char>(i));
  return bytes;
}

TEST(SipHash, EqualsThePublishedVectors) {
  EXPECT_EQ(SipHash128(kKey, ""), (Hash128{0xe6a825ba047f81a3, 0x930255c71472f66d}));
  EXPECT_EQ(SipHash128(kKey, CountingBytes(1)), (Hash128{0x44af996bd8c187da, 0x45fc229b11597634}));
}

TEST(SipHash, EveryByteAndTheLengthCount) {
  const std::string bytes = CountingBytes(29);
  const Hash128 hash = SipHash128(kKey, bytes);
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string other = bytes;
    other[i] ^= 1;
    EXPECT_NE(SipHash128(kKey, other), hash) << i;
  }
  EXPECT_NE(SipHash128(kKey, bytes + '\0'), hash);
  EXPECT_NE(SipHash128({1, 2}, bytes), hash);
}

}  // namespace
}  // namespace nibble::kv
