#include "engine/backends/cpu/row_rounding.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "absl/types/span.h"
#include "engine/quant/rotation.h"
#include "engine/quant/weight_groups.h"
#include "gtest/gtest.h"
#include "kvcache/simd/isa.h"
#include "tests/engine/backends/random_tensor.h"

namespace nibble::engine {
namespace {

// The definition of 4-bit activations, group by group: what QuantizeRow is held to. `int4` is 1 or 0.
void QuantizeGroupA4(const float* x, const float* int4, int8_t* codes, float* scale) {
  float low = 0.0f, high = 0.0f, wide = 0.0f, largest = 0.0f;
  for (int i = 0; i < kGroupSize; ++i) {
    largest = std::max(largest, std::fabs(x[i]));
    if (int4[i] == 0.0f) wide = std::max(wide, std::fabs(x[i]));
    if (int4[i] == 1.0f) low = std::min(low, x[i]), high = std::max(high, x[i]);
  }
  const float half_span = std::max(0.5f * high - 0.5f * low, wide * (7.5f / 127.0f));
  const bool counts = largest >= 1e-30f;
  *scale = counts ? half_span / 7.5f : 0.0f;
  const float inverse = counts ? 7.5f / half_span : 0.0f;
  const float highest = std::nearbyintf(low * inverse) + 15.0f;
  for (int i = 0; i < kGroupSize; ++i) {
    codes[i] = static_cast<int8_t>(std::nearbyintf(std::min(x[i] * inverse, int4[i] == 1.0f ? highest : 127.0f)));
  }
}

// Rows of four groups: of both signs, of one, of zeros, of extremes.
std::vector<std::vector<float>> RowsForA4() {
  std::mt19937_64 random(13);
  std::vector<std::vector<float>> rows = {RandomFloats(128, random), RandomFloats(128, random),
                                          std::vector<float>(128, 0.0f), std::vector<float>(128, -1e-31f)};
  for (float& value : rows[1]) value = std::fabs(value);
  rows.push_back(rows[1]);
  for (float& value : rows.back()) value = -value;
  for (const float factor : {1e-30f, 1e37f}) {
    rows.push_back(rows[0]);
    for (float& value : rows.back()) value *= factor;
  }
  rows.push_back(rows[0]);
  rows.back()[40] = std::numeric_limits<float>::max();
  rows.back()[41] = -std::numeric_limits<float>::max();
  return rows;
}

// All of 4 bits; a few int8 inputs; all int8.
std::vector<std::vector<float>> Int4InputsOf128() {
  std::vector<std::vector<float>> inputs = {std::vector<float>(128, 1.0f), std::vector<float>(128, 1.0f),
                                            std::vector<float>(128, 0.0f)};
  for (const int input : {0, 17, 40, 95, 96, 97, 127}) inputs[1][input] = 0.0f;
  return inputs;
}

void ExpectFourBits(const float* x, const float* int4, float scale, const int8_t* codes) {
  int least = 0, most = 0;
  for (int i = 0; i < kGroupSize; ++i) {
    EXPECT_LE(std::fabs(double{scale} * codes[i] - x[i]), 0.501 * scale + 1e-30);
    EXPECT_LE(std::abs(codes[i]), 127);
    if (int4[i] == 1.0f) least = std::min<int>(least, codes[i]), most = std::max<int>(most, codes[i]);
  }
  EXPECT_LE(most - least, 15);
}

TEST(QuantizeRow, FourBitCodesAreThoseOfTheDefinitionOnEveryTarget) {
  for (const std::vector<float>& x : RowsForA4()) {
    for (const std::vector<float>& int4 : Int4InputsOf128()) {
      for (simd::Isa isa : simd::SupportedIsas()) {
        int8_t codes[128], want[kGroupSize];
        float scales[4], scaled_sums[4], row_sum, scale;
        int32_t biases[4];
        QuantizeRow(isa, x.data(), 128, 0, {int4.data()}, {codes, scales, scaled_sums, biases, &row_sum, 4});
        for (int g = 0; g < 4; ++g) {
          QuantizeGroupA4(&x[g * kGroupSize], &int4[g * kGroupSize], want, &scale);
          EXPECT_EQ(std::bit_cast<uint32_t>(scales[g]), std::bit_cast<uint32_t>(scale)) << simd::Name(isa);
          EXPECT_TRUE(std::equal(want, want + kGroupSize, codes + g * kGroupSize)) << simd::Name(isa);
          ExpectFourBits(&x[g * kGroupSize], &int4[g * kGroupSize], scale, want);
          const int sum = std::accumulate(want, want + kGroupSize, 0);
          EXPECT_EQ(biases[g], -128 * sum);
          EXPECT_EQ(scaled_sums[g], scale * static_cast<float>(sum));
        }
        EXPECT_EQ(row_sum, ((scaled_sums[0] + scaled_sums[1]) + scaled_sums[2]) + scaled_sums[3]);
      }
    }
  }
}

TEST(QuantizeRow, AnInt8InputDoesNotWidenTheStepOfItsGroup) {
  std::vector<float> x(32, 0.5f), int4(32, 1.0f);
  x[7] = 5.0f;
  int8_t codes[32];
  float with, without, sum, row_sum;
  int32_t bias;
  QuantizeRow(simd::Isa::kScalar, x.data(), 32, 0, {int4.data()}, {codes, &without, &sum, &bias, &row_sum, 1});
  int4[7] = 0.0f;
  QuantizeRow(simd::Isa::kScalar, x.data(), 32, 0, {int4.data()}, {codes, &with, &sum, &bias, &row_sum, 1});
  EXPECT_FLOAT_EQ(without, 5.0f / 15);
  EXPECT_FLOAT_EQ(with, 5.0f / 127);
  EXPECT_EQ(codes[7], 127);
}

constexpr int64_t kGroups = 35;  // twice those that are rounded at once, and some

struct Rounded {
  Rounded(simd::Isa isa, const std::vector<float>& x, const RowForm& form) : rows(buffer.Fit(1, kGroups)) {
    QuantizeRow(isa, x.data(), static_cast<int64_t>(x.size()), 0, form, rows);
  }
  auto codes() const { return absl::MakeConstSpan(rows.codes, kGroups * kGroupSize); }
  auto scales() const { return absl::MakeConstSpan(rows.scales, kGroups); }
  auto scaled_sums() const { return absl::MakeConstSpan(rows.scaled_sums, kGroups); }
  auto biases() const { return absl::MakeConstSpan(rows.biases, kGroups); }

  QuantizedRowsBuffer buffer;
  const QuantizedRows rows;
};

// Whole groups, turned by the plain definition.
std::vector<float> PlainlyRotated(std::vector<float> x) {
  x.resize(kGroups * kGroupSize, 0.0f);
  RotateInputs(absl::MakeSpan(x));
  return x;
}

TEST(QuantizeRow, ARotatedRowIsTheRoundedOneOfTheDefinitionOnEveryTarget) {
  std::mt19937_64 random(17);
  const std::vector<float> int4(kGroups * kGroupSize, 1.0f);
  for (const float factor : {1.0f, 1e-20f, 1e30f}) {
    std::vector<float> x = RandomFloats(kGroups * kGroupSize - 16, random);  // the last group is not full
    for (float& value : x) value *= factor;
    x[7] *= 50.0f;
    for (const float* const inputs : {static_cast<const float*>(nullptr), int4.data()}) {
      const Rounded want(simd::Isa::kScalar, PlainlyRotated(x), {inputs, false});
      for (const simd::Isa isa : simd::SupportedIsas()) {
        const Rounded got(isa, x, {inputs, true});
        EXPECT_EQ(got.codes(), want.codes()) << simd::Name(isa);
        EXPECT_EQ(got.scales(), want.scales()) << simd::Name(isa);
        EXPECT_EQ(got.scaled_sums(), want.scaled_sums()) << simd::Name(isa);
        EXPECT_EQ(got.biases(), want.biases()) << simd::Name(isa);
        EXPECT_EQ(*got.rows.row_sums, *want.rows.row_sums) << simd::Name(isa);
      }
    }
  }
}

TEST(QuantizeRow, ARotatedGroupThatIsNotFiniteOrOverflowsHasTheScaleNanAlone) {
  constexpr float kMost = std::numeric_limits<float>::max();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), kMost}) {
    std::vector<float> x(kGroups * kGroupSize, 1.0f);
    x[17 * kGroupSize + 8] = x[17 * kGroupSize + 9] = bad;
    for (const simd::Isa isa : simd::SupportedIsas()) {
      const Rounded got(isa, x, {nullptr, true});
      for (int64_t g = 0; g < kGroups; ++g) EXPECT_EQ(std::isnan(got.scales()[g]), g == 17) << simd::Name(isa);
      const auto codes = got.codes().subspan(17 * kGroupSize, kGroupSize);
      EXPECT_TRUE(std::all_of(codes.begin(), codes.end(), [](int8_t code) { return code == 0; }));
    }
  }
}

}  // namespace
}  // namespace nibble::engine
