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
  EXPECT_EQ(seen.size(), AllEncodings().size() - 1) << "all but Nibble's own";
}

TEST(Encoding, H8_0StandsForAHadamardMatrixTimesItsCodes) {
  std::vector<std::byte> block(34);
  const uint16_t half = 0x3800;  // 0.5
  std::memcpy(block.data(), &half, 2);
  for (int i = 0; i < 32; ++i) block[2 + i] = static_cast<std::byte>(i * 37 - 128);
  std::vector<float> decoded(32);
  TraitsOf(Encoding::kH8_0).decode(block.data(), absl::MakeSpan(decoded));
  for (int row = 0; row < 32; ++row) {
    double sum = 0.0;
    for (int i = 0; i < 32; ++i) {
      const double sign = std::popcount(static_cast<unsigned>(row & i)) % 2 == 0 ? 1.0 : -1.0;
      sum += sign * static_cast<int8_t>(block[2 + i]);
    }
    EXPECT_EQ(decoded[row], 0.5 / 8 * sum);
  }
}

TEST(Encoding, TableFindsEveryRowByEitherName) {
  for (const EncodingTraits& traits : AllEncodings()) {
    EXPECT_EQ(&TraitsOf(traits.encoding), &traits);
    EXPECT_EQ(FindByGgufType(traits.gguf_type), traits.encoding == Encoding::kH8_0 ? nullptr : &traits);
  }
  for (const uint32_t unknown : {4u, 5u, 9u, 10u, 11u, 31u, 39u, kNoGgufType}) {
    EXPECT_EQ(FindByGgufType(unknown), nullptr) << unknown;
  }
}

TEST(EncodingDeathTest, RowOutsideTheTable) { EXPECT_DEATH(TraitsOf(static_cast<Encoding>(99)), "check failed"); }

}  // namespace
}  // namespace nibble::engine
