#include "engine/weights/encoding.h"

#include <bit>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace nibble::engine {
namespace {

uint32_t TakeU32(const std::string& bytes, size_t* at) {
  uint32_t value = 0;
  std::memcpy(&value, bytes.data() + *at, 4);
  *at += 4;
  return value;
}

// tests/golden/encodings/make_golden.py wrote what the format's reference implementation makes of the same bytes.
TEST(Encoding, DecodesAsTheReferenceBitForBit) {
  std::ifstream file(NIBBLE_TESTS_DIR "/golden/encodings/encodings.bin", std::ios::binary);
  const std::string golden{std::istreambuf_iterator<char>(file), {}};
  ASSERT_FALSE(golden.empty());
  std::set<Encoding> seen;
  for (size_t at = 0; at < golden.size();) {
    const EncodingTraits* traits = FindByGgufType(TakeU32(golden, &at));
    ASSERT_NE(traits, nullptr);
    const size_t bytes = TakeU32(golden, &at), elements = TakeU32(golden, &at);
    ASSERT_EQ(bytes / static_cast<size_t>(traits->block_bytes) * static_cast<size_t>(traits->block_elements), elements);
    std::vector<float> decoded(elements), expected(elements);
    traits->decode(reinterpret_cast<const std::byte*>(golden.data() + at), absl::MakeSpan(decoded));
    std::memcpy(expected.data(), golden.data() + at + bytes, elements * 4);
    for (size_t i = 0; i < elements; ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(decoded[i]), std::bit_cast<uint32_t>(expected[i]))
          << traits->name << " element " << i << ": " << decoded[i] << ", not " << expected[i];
    }
    at += bytes + elements * 4;
    seen.insert(traits->encoding);
  }
  EXPECT_EQ(seen.size(), AllEncodings().size());
}

TEST(Encoding, TableFindsEveryRowByEitherName) {
  for (const EncodingTraits& traits : AllEncodings()) {
    EXPECT_EQ(&TraitsOf(traits.encoding), &traits);
    EXPECT_EQ(FindByGgufType(traits.gguf_type), &traits);
  }
  for (const uint32_t unknown : {4u, 5u, 9u, 10u, 11u, 31u, 39u, 0xffffffffu}) {
    EXPECT_EQ(FindByGgufType(unknown), nullptr) << unknown;
  }
}

TEST(EncodingDeathTest, RowOutsideTheTable) { EXPECT_DEATH(TraitsOf(static_cast<Encoding>(99)), "check failed"); }

}  // namespace
}  // namespace nibble::engine
