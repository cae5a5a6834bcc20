#include "engine/quant/gptq.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "engine/quant/group_blocks.h"
#include "engine/quant/weight_groups.h"
#include "engine/weights/encoding.h"
#include "gtest/gtest.h"

namespace nibble::engine {
namespace {

constexpr int64_t kRows = 5, kInputs = 96;

std::vector<float> Normals(int64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

// X^T X of inputs that share a common part, so that one can stand in for another.
std::vector<float> CorrelatedHessian() {
  constexpr int64_t kTokens = 400;
  const std::vector<float> noise = Normals(kTokens * kInputs, 1), common = Normals(kTokens * 4, 2);
  std::vector<float> hessian(kInputs * kInputs, 0.0f);
  std::vector<float> x(kInputs);
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t k = 0; k < kInputs; ++k) x[k] = 0.3f * noise[t * kInputs + k] + common[t * 4 + k % 4];
    for (int64_t i = 0; i < kInputs; ++i) {
      for (int64_t j = 0; j < kInputs; ++j) hessian[i * kInputs + j] += x[i] * x[j];
    }
  }
  return hessian;
}

std::vector<std::byte> BlocksFor(Encoding encoding, const std::vector<float>& weights) {
  return std::vector<std::byte>(weights.size() / kGroupSize * static_cast<size_t>(TraitsOf(encoding).block_bytes));
}

std::vector<std::byte> Nearest(Encoding encoding, const std::vector<float>& weights) {
  std::vector<std::byte> blocks = BlocksFor(encoding, weights);
  std::byte* block = blocks.data();
  for (size_t first = 0; first < weights.size(); first += kGroupSize, block += TraitsOf(encoding).block_bytes) {
    int8_t codes[kGroupSize];
    float scale, min;
    RoundGroup(encoding, absl::MakeConstSpan(weights).subspan(first, kGroupSize), codes, &scale, &min);
    WriteGroup(encoding, codes, scale, min, block);
  }
  return blocks;
}

std::vector<std::byte> Gptq(Encoding encoding, const std::vector<float>& weights, const std::vector<float>& factor) {
  std::vector<std::byte> blocks = BlocksFor(encoding, weights);
  RoundRowsGptq(encoding, weights, kInputs, factor, blocks.data());
  return blocks;
}

// (w - q) H (w - q)^T over all rows.
double Loss(Encoding encoding, const std::vector<float>& weights, const std::vector<std::byte>& blocks,
            const std::vector<float>& hessian) {
  std::vector<float> rounded(weights.size());
  TraitsOf(encoding).decode(blocks.data(), absl::MakeSpan(rounded));
  double loss = 0.0;
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t i = 0; i < kInputs; ++i) {
      for (int64_t j = 0; j < kInputs; ++j) {
        loss += double{weights[row * kInputs + i] - rounded[row * kInputs + i]} * hessian[i * kInputs + j] *
                double{weights[row * kInputs + j] - rounded[row * kInputs + j]};
      }
    }
  }
  return loss;
}

TEST(Gptq, FactorTimesItsTransposeIsTheDampedHessian) {
  const std::vector<float> hessian = CorrelatedHessian();
  std::vector<float> factor = hessian;
  ASSERT_TRUE(FactorHessian(kInputs, absl::MakeSpan(factor)));
  double mean = 0.0;
  for (int64_t i = 0; i < kInputs; ++i) mean += double{hessian[i * kInputs + i]} / kInputs;
  for (int64_t i = 0; i < kInputs; ++i) {
    for (int64_t j = 0; j < kInputs; ++j) {
      double product = 0.0;
      for (int64_t k = 0; k < kInputs; ++k) product += double{factor[i * kInputs + k]} * factor[j * kInputs + k];
      EXPECT_NEAR(product, hessian[i * kInputs + j] + (i == j ? kGptqDamping * mean : 0.0), 1e-4 * mean);
      EXPECT_TRUE(j <= i || factor[i * kInputs + j] == 0.0f);
    }
  }
}

class GptqTo : public testing::TestWithParam<Encoding> {};

TEST_P(GptqTo, InputsThatDoNotCorrelateGiveTheNearestCodes) {
  std::vector<float> identity(kInputs * kInputs, 0.0f);
  for (int64_t i = 0; i < kInputs; ++i) identity[i * kInputs + i] = static_cast<float>(1 + i % 7);
  ASSERT_TRUE(FactorHessian(kInputs, absl::MakeSpan(identity)));
  const std::vector<float> weights = Normals(kRows * kInputs, 3);
  EXPECT_EQ(Gptq(GetParam(), weights, identity), Nearest(GetParam(), weights));
}

TEST_P(GptqTo, CorrelatedInputsLoseMuchLessThanByNearestCodes) {
  const std::vector<float> hessian = CorrelatedHessian(), weights = Normals(kRows * kInputs, 4);
  std::vector<float> factor = hessian;
  ASSERT_TRUE(FactorHessian(kInputs, absl::MakeSpan(factor)));
  const auto loss_of = [&](const std::vector<std::byte>& blocks) { return Loss(GetParam(), weights, blocks, hessian); };
  EXPECT_LT(loss_of(Gptq(GetParam(), weights, factor)), 0.5 * loss_of(Nearest(GetParam(), weights)));
}

TEST_P(GptqTo, AWeightThatIsNotFiniteSpoilsItsOwnGroupAlone) {
  std::vector<float> factor = CorrelatedHessian(), weights = Normals(kRows * kInputs, 5);
  ASSERT_TRUE(FactorHessian(kInputs, absl::MakeSpan(factor)));
  weights[kInputs + 40] = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> rounded(weights.size());
  TraitsOf(GetParam()).decode(Gptq(GetParam(), weights, factor).data(), absl::MakeSpan(rounded));
  for (int64_t i = 0; i < kRows * kInputs; ++i) {
    EXPECT_EQ(std::isnan(rounded[i]), i / kInputs == 1 && i % kInputs / kGroupSize == 1) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Both, GptqTo, testing::Values(Encoding::kQ4_1, Encoding::kQ8_0));

TEST(Gptq, AHessianThatIsNotFiniteIsRefused) {
  std::vector<float> hessian = CorrelatedHessian();
  hessian[7] = hessian[7 * kInputs] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(FactorHessian(kInputs, absl::MakeSpan(hessian)));
}

}  // namespace
}  // namespace nibble::engine
