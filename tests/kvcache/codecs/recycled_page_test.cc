// Row 39 of the robustness table, of the bytes of one page: whatever its place held before, nothing of it stays.
#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kvcache/codecs/codec.h"
#include "kvcache/simd/half.h"
#include "tests/base/status_matchers.h"
#include "tests/law1/random_calibration.h"

namespace nibble::kv {
namespace {

constexpr int kHeadDim = 64;

CodecModel Model() {
  CodecModel model{2, 2, kHeadDim, 8, {}, {0, 0}};
  model.ropes.resize(1);
  for (int i = 0; i < kHeadDim / 2; ++i) model.ropes[0].frequencies.push_back(1.0 / (1 + i));
  return model;
}

std::vector<uint16_t> RawPage() {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> raw(2 * kPageTokens * kHeadDim);
  for (uint16_t& half : raw) half = simd::FloatToHalf(normal(random));
  return raw;
}

class RecycledPage : public testing::TestWithParam<const char*> {};

TEST_P(RecycledPage, Row39_SealingWritesEveryByte) {
  const std::string name = GetParam();
  const std::vector<uint16_t> raw = RawPage();
  for (const simd::Isa isa : simd::SupportedIsas()) {
    const auto codec = FindCodec(name)->create(Model(), RandomCalibration(name, Model()).get(), isa);
    ASSERT_THAT(codec, IsOk());
    const HeadId head = {1, 1};  // the last
    const auto bytes = static_cast<size_t>((*codec)->page_bytes() - (*codec)->head_offset(head));
    std::vector<std::byte> over_zeros(bytes, std::byte{0}), over_ones(bytes, std::byte{0xFF});
    (*codec)->Encode(head, 3, raw.data(), over_zeros.data());
    (*codec)->Encode(head, 3, raw.data(), over_ones.data());
    EXPECT_EQ(over_zeros, over_ones) << simd::Name(isa);
  }
}

INSTANTIATE_TEST_SUITE_P(Codecs, RecycledPage,
                         testing::Values("int8", "int4", "kivi4", "kivi2", "cq2", "cq1", "klt3", "klt2", "klt1"));

}  // namespace
}  // namespace nibble::kv
