#include "kvcache/simd/half.h"

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "gtest/gtest.h"

namespace nibble::simd {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The nearest of all finite halves, by exhaustive search; ties to the even one. 65536 stands for infinity.
uint16_t NearestHalf(float value) {
  const double magnitude = std::fabs(static_cast<double>(value));
  uint16_t best = 0;
  double best_distance = magnitude;
  for (uint16_t half = 1; half <= 0x7c00; ++half) {
    const double candidate = half == 0x7c00 ? 65536.0 : static_cast<double>(HalfToFloat(half));
    const double distance = std::fabs(candidate - magnitude);
    if (distance < best_distance || (distance == best_distance && half % 2 == 0)) {
      best = half;
      best_distance = distance;
    }
  }
  return static_cast<uint16_t>(best | (std::signbit(value) ? 0x8000 : 0));
}

TEST(Half, EveryHalfSurvivesTheWayThereAndBack) {
  for (uint32_t half = 0; half <= 0xffff; ++half) {
    const float value = HalfToFloat(static_cast<uint16_t>(half));
    const bool is_nan = (half & 0x7fff) > 0x7c00;
    ASSERT_EQ(std::isnan(value), is_nan);
    ASSERT_EQ(FloatToHalf(value), is_nan ? half | 0x200 : half);
  }
}

TEST(Half, KnownValues) {
  EXPECT_EQ(HalfToFloat(0x3c00), 1.0f);
  EXPECT_EQ(HalfToFloat(0xc000), -2.0f);
  EXPECT_EQ(HalfToFloat(0x7bff), 65504.0f);
  EXPECT_EQ(HalfToFloat(0x0001), 0x1p-24f);
  EXPECT_EQ(HalfToFloat(0x0400), 0x1p-14f);
  EXPECT_EQ(HalfToFloat(0xfc00), -kInfinity);
  EXPECT_TRUE(std::signbit(HalfToFloat(0x8000)));
}

TEST(Half, RoundsToNearestEvenAtEveryEdge) {
  EXPECT_EQ(FloatToHalf(65519.996f), 0x7bff);
  EXPECT_EQ(FloatToHalf(65520.0f), 0x7c00);  // the tie is to even, which is infinity
  EXPECT_EQ(FloatToHalf(-kInfinity), 0xfc00);
  EXPECT_EQ(FloatToHalf(std::numeric_limits<float>::max()), 0x7c00);
  EXPECT_EQ(FloatToHalf(0x1p-25f), 0);  // tie between 0 and the least denormal
  EXPECT_EQ(FloatToHalf(std::nextafter(0x1p-25f, 1.0f)), 1);
  EXPECT_EQ(FloatToHalf(0x1.8p-24f), 2);                          // tie between 1 and 2
  EXPECT_EQ(FloatToHalf(std::nextafter(0x1p-14f, 0.0f)), 0x400);  // a denormal that rounds to the least normal
  EXPECT_EQ(FloatToHalf(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(FloatToHalf(1.0f + 0x1p-11f), 0x3c00);    // tie to even, down
  EXPECT_EQ(FloatToHalf(1.0f + 0x1.8p-10f), 0x3c02);  // tie to even, up
  EXPECT_EQ(FloatToHalf(2.0f - 0x1p-12f), 0x4000);    // the carry reaches the exponent
}

TEST(Half, EqualsTheNearestBySearch) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> exponent(-27.0f, 17.0f);
  for (int i = 0; i < 400; ++i) {
    const float value = std::exp2(exponent(random)) * (i % 2 == 0 ? 1.0f : -1.0f);
    ASSERT_EQ(FloatToHalf(value), NearestHalf(value)) << value;
  }
}

TEST(Half, MidpointsBetweenNeighboursGoToTheEvenOne) {
  for (uint16_t half = 0; half < 0x7bff; ++half) {
    const float midpoint = (HalfToFloat(half) + HalfToFloat(half + 1)) / 2;
    ASSERT_EQ(FloatToHalf(midpoint), half % 2 == 0 ? half : half + 1);
    ASSERT_EQ(FloatToHalf(std::nextafter(midpoint, 0.0f)), half);
    ASSERT_EQ(FloatToHalf(std::nextafter(midpoint, kInfinity)), half + 1);
  }
}

TEST(Bf16, EveryValueIsTheUpperHalfOfAFloat) {
  EXPECT_EQ(Bf16ToFloat(0x3f80), 1.0f);
  EXPECT_EQ(Bf16ToFloat(0xc0a0), -5.0f);
  EXPECT_EQ(Bf16ToFloat(0xff80), -kInfinity);
  EXPECT_EQ(Bf16ToFloat(0x0001), 0x1p-133f);
  for (uint32_t bf16 = 0; bf16 <= 0xffff; ++bf16) {
    ASSERT_EQ(std::bit_cast<uint32_t>(Bf16ToFloat(static_cast<uint16_t>(bf16))), bf16 << 16);
  }
}

}  // namespace
}  // namespace nibble::simd
