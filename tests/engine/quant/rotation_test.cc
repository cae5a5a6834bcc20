#include "engine/quant/rotation.h"

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "engine/quant/weight_groups.h"
#include "gtest/gtest.h"

namespace nibble::engine {
namespace {

constexpr int kInputs = 64;

std::vector<float> Normals(int count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<float> RotatedInputs(std::vector<float> x) {
  RotateInputs(absl::MakeSpan(x));
  return x;
}

double Dot(const std::vector<float>& x, const std::vector<float>& w) {
  double sum = 0.0;
  for (size_t k = 0; k < x.size(); ++k) sum += double{x[k]} * double{w[k]};
  return sum;
}

TEST(Rotation, KeepsProducts) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::vector<float> x = Normals(kInputs, seed), w = Normals(kInputs, 100 + seed);
    std::vector<float> rotated = w;
    RotateWeights(absl::MakeSpan(rotated));
    EXPECT_NEAR(Dot(RotatedInputs(x), rotated), Dot(x, w), 1e-4);
  }
}

TEST(Rotation, MomentsAreThoseOfRotatedInputs) {
  std::vector<float> moments(kInputs * kInputs, 0.0f), want = moments;
  const auto add = [](const std::vector<float>& x, std::vector<float>* sums) {
    for (int i = 0; i < kInputs; ++i) {
      for (int j = 0; j < kInputs; ++j) (*sums)[i * kInputs + j] += x[i] * x[j];
    }
  };
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const std::vector<float> x = Normals(kInputs, seed);
    add(x, &moments);
    add(RotatedInputs(x), &want);
  }
  RotateMoments(kInputs, absl::MakeSpan(moments));
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(moments[i], want[i], 1e-4);
}

// The mean square of what rounding to 8 bits does to the group.
double Loss(const std::vector<float>& values) {
  int8_t codes[kGroupSize];
  float scale;
  RoundGroupW8(values, codes, &scale);
  double loss = 0.0;
  for (int i = 0; i < kGroupSize; ++i) loss += std::pow(double{values[i]} - double{scale} * codes[i], 2);
  return loss;
}

TEST(Rotation, AnInputMuchLargerThanItsGroupCostsLess) {
  double plain = 0.0, rotated = 0.0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<float> x = Normals(kGroupSize, seed);
    x[seed] = 16.0f;
    plain += Loss(x);
    // Twice the square: rotated inputs are shorter by the square root of 2.
    rotated += 2.0 * Loss(RotatedInputs(x));
  }
  EXPECT_LT(rotated, 0.3 * plain);
}

}  // namespace
}  // namespace nibble::engine
