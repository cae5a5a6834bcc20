#include "engine/quant/smoothing.h"

#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

#include "engine/quant/weight_groups.h"
#include "gmock/gmock.h"

namespace nibble::engine {
namespace {

constexpr int64_t kInputs = 64, kOutputs = 48, kTokens = 100;

// [rows, kInputs]
std::vector<float> Normals(int64_t rows, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(rows * kInputs));
  for (float& value : values) value = normal(random);
  return values;
}

Tensor MatrixOf(const std::vector<float>& values) {
  Tensor tensor;
  tensor.shape = {static_cast<int64_t>(values.size()) / kInputs, kInputs};
  tensor.data = absl::MakeConstSpan(reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(float));
  return tensor;
}

std::vector<double> ColumnEnergies(const std::vector<float>& values) {
  std::vector<double> energies(kInputs, 0.0);
  AddColumnEnergies(MatrixOf(values), absl::MakeSpan(energies));
  return energies;
}

std::vector<float> Rounded(const std::vector<float>& values) {
  std::vector<float> rounded(values.size());
  for (size_t first = 0; first < values.size(); first += kGroupSize) {
    int8_t codes[kGroupSize];
    float scale;
    RoundGroupW8(absl::MakeConstSpan(values).subspan(first, kGroupSize), codes, &scale);
    for (size_t k = 0; k < kGroupSize; ++k) rounded[first + k] = scale * static_cast<float>(codes[k]);
  }
  return rounded;
}

// Sum of squares of what rounding both to 8 bits does to the products.
double Loss(const std::vector<float>& x, const std::vector<float>& w) {
  const std::vector<float> rounded_x = Rounded(x), rounded_w = Rounded(w);
  double loss = 0.0;
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t o = 0; o < kOutputs; ++o) {
      double error = 0.0;
      for (int64_t k = 0; k < kInputs; ++k) {
        error += double{x[t * kInputs + k]} * double{w[o * kInputs + k]} -
                 double{rounded_x[t * kInputs + k]} * double{rounded_w[o * kInputs + k]};
      }
      loss += error * error;
    }
  }
  return loss;
}

TEST(Smoothing, EnergiesAreSumsOverAllRows) {
  std::vector<float> values(2 * kInputs, 0.0f);
  values[3] = 2.0f;
  values[kInputs + 3] = -3.0f;
  std::vector<double> energies(kInputs, 1.0);
  AddColumnEnergies(MatrixOf(values), absl::MakeSpan(energies));
  EXPECT_EQ(energies[3], 14.0);
  EXPECT_EQ(energies[4], 1.0);
}

TEST(Smoothing, InputsAndWeightsBecomeEquallyLarge) {
  const std::vector<double> inputs = {16, 1, 4, 1}, weights = {1, 1, 4, 16};
  for (const double more : {1.0, 1e6}) {  // a longer text changes nothing
    std::vector<double> energies = inputs;
    for (double& energy : energies) energy *= more;
    const std::vector<float> scales = SmoothingScales(energies, weights);
    for (size_t c = 0; c < scales.size(); ++c) {
      const double squared = double{scales[c]} * double{scales[c]};
      EXPECT_NEAR(inputs[c] / squared, weights[c] * squared, 1e-5);
    }
  }
}

TEST(Smoothing, InputsMuchLargerThanTheirGroupCostLessAfterwards) {
  for (const float larger : {8.0f, 16.0f, 64.0f}) {
    std::vector<float> x = Normals(kTokens, 1), w = Normals(kOutputs, 2);
    for (int64_t t = 0; t < kTokens; ++t) x[t * kInputs + 7] *= larger;
    const double plain = Loss(x, w);
    const std::vector<float> scales = SmoothingScales(ColumnEnergies(x), ColumnEnergies(w));
    for (size_t i = 0; i < x.size(); ++i) x[i] /= scales[i % kInputs];
    for (size_t i = 0; i < w.size(); ++i) w[i] *= scales[i % kInputs];
    EXPECT_LT(Loss(x, w), 0.6 * plain) << larger;
  }
}

TEST(Smoothing, ScalesAreFiniteWhateverTheSums) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();
  for (const std::vector<double>& inputs : {std::vector<double>{0, 0, 0}, {0, 1, 1e300}, {kNan, 1, kInfinity}}) {
    for (const std::vector<double>& weights : {std::vector<double>{0, 0, 0}, {1e-300, 0, 4}, {1, kInfinity, kNan}}) {
      for (const float scale : SmoothingScales(inputs, weights)) {
        EXPECT_TRUE(std::isfinite(scale));
        EXPECT_GT(scale, 0.0f);
      }
    }
  }
}

TEST(Smoothing, MomentsAreThoseOfDividedInputs) {
  const std::vector<float> scales = {2.0f, 0.5f};
  std::vector<float> moments = {8.0f, 6.0f, 6.0f, 1.0f};
  DivideMoments(scales, absl::MakeSpan(moments));
  EXPECT_THAT(moments, testing::ElementsAre(2.0f, 6.0f, 6.0f, 4.0f));
}

}  // namespace
}  // namespace nibble::engine
