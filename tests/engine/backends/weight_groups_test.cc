#include "engine/quant/weight_groups.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/backends/random_tensor.h"

namespace nibble::engine {
namespace {

struct Groups {
  explicit Groups(const Tensor& tensor, GroupRounding rounding)
      : codes(tensor.cols()), scales(tensor.cols() / kGroupSize), mins(tensor.cols() / kGroupSize) {
    std::vector<float> scratch(tensor.cols());
    ReadGroupRow(tensor, 0, rounding, absl::MakeSpan(scratch),
                 {absl::MakeSpan(codes), absl::MakeSpan(scales), absl::MakeSpan(mins)});
  }
  double value(size_t k) const { return double{scales[k / kGroupSize]} * codes[k] + double{mins[k / kGroupSize]}; }
  std::vector<int8_t> codes;
  std::vector<float> scales, mins;
};

TEST(WeightGroups, CodesOfGroupedFilesStandForTheFilesOwnValues) {
  std::mt19937_64 random(1);
  for (Encoding encoding : {Encoding::kQ8_0, Encoding::kQ4_0, Encoding::kQ4_1, Encoding::kQ5_0, Encoding::kQ5_1,
                            Encoding::kQ4_K, Encoding::kQ5_K}) {
    const OwnedTensor tensor = RandomTensor(encoding, 1, 512, random);
    const std::vector<float> want = Decode(tensor.tensor);
    const Groups got(tensor.tensor, GroupRounding::kAsInFile);
    for (size_t k = 0; k < want.size(); ++k) {
      // The file's own decoder rounds in float; a product and a sum of about 10 differ by an ulp or two.
      EXPECT_NEAR(got.value(k), want[k], 4e-6) << TraitsOf(encoding).name << " " << k;
    }
  }
}

TEST(WeightGroups, RotatedCodesAreKeptWhereEightBitsAreAskedFor) {
  std::mt19937_64 random(4);
  const OwnedTensor rotated = RandomTensor(Encoding::kH8_0, 1, 512, random);
  OwnedTensor plain = rotated;
  plain.tensor.encoding = Encoding::kQ8_0;
  for (const GroupRounding rounding : {GroupRounding::kAsInFile, GroupRounding::kToW8}) {
    EXPECT_TRUE(HasRotatedCodes(rotated.tensor, rounding));
    EXPECT_FALSE(HasRotatedCodes(plain.tensor, rounding));
    const Groups got(rotated.tensor, rounding), want(plain.tensor, rounding);
    EXPECT_EQ(got.codes, want.codes);
    EXPECT_EQ(got.scales, want.scales);
    EXPECT_EQ(got.mins, want.mins);
  }
  EXPECT_FALSE(HasRotatedCodes(rotated.tensor, GroupRounding::kToW4));
  const Groups four(rotated.tensor, GroupRounding::kToW4);
  const std::vector<float> want = Decode(rotated.tensor);
  for (size_t k = 0; k < want.size(); ++k) EXPECT_NEAR(four.value(k), want[k], 0.6 * four.scales[k / kGroupSize]);
}

TEST(WeightGroups, RoundingIsWithinHalfAStep) {
  std::mt19937_64 random(2);
  for (Encoding encoding : {Encoding::kF32, Encoding::kQ6_K}) {
    const OwnedTensor tensor = RandomTensor(encoding, 1, 512, random);
    const std::vector<float> want = Decode(tensor.tensor);
    for (GroupRounding rounding : {GroupRounding::kToW8, GroupRounding::kToW4}) {
      const Groups got(tensor.tensor, rounding);
      for (size_t k = 0; k < want.size(); ++k) {
        // Half a step, and what rounding the scale and the min to f16 shifts the ends of the range by.
        const double step = got.scales[k / kGroupSize];
        EXPECT_LE(std::fabs(got.value(k) - want[k]), 0.5 * step * 1.01 + std::fabs(want[k]) * 0x1p-10) << k;
      }
    }
  }
}

TEST(WeightGroups, AGroupOfOneValueIsExact) {
  const std::vector<float> values(32, 0.75f);
  int8_t codes[32];
  float scale, min;
  RoundGroupW4(values, codes, &scale, &min);
  EXPECT_EQ(scale, 0.0f);
  EXPECT_EQ(min, 0.75f);
  RoundGroupW8(std::vector<float>(32, 0.0f), codes, &scale);
  EXPECT_EQ(scale, 0.0f);
  EXPECT_TRUE(std::all_of(codes, codes + 32, [](int8_t code) { return code == 0; }));
}

TEST(WeightGroups, AGroupThatIsNotFiniteHasNoCodesAndTheScaleNan) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  for (const float bad : {kNan, kInf, -kInf, 3e38f, -3e38f}) {  // the last two: beyond f16's scale
    for (const size_t at : {0, 17, 31}) {
      std::vector<float> values(32, 0.75f);
      values[at] = bad;
      int8_t codes[32];
      float scale = 0.0f, min = kNan;
      RoundGroupW8(values, codes, &scale);
      EXPECT_TRUE(std::isnan(scale)) << bad;
      EXPECT_TRUE(std::all_of(codes, codes + 32, [](int8_t code) { return code == 0; })) << bad;
      RoundGroupW4(values, codes, &scale, &min);
      EXPECT_TRUE(std::isnan(scale)) << bad;
      EXPECT_EQ(min, 0.0f) << bad;
      EXPECT_TRUE(std::all_of(codes, codes + 32, [](int8_t code) { return code == 0; })) << bad;
    }
  }
}

}  // namespace
}  // namespace nibble::engine
