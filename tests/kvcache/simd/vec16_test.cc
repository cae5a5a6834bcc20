// The sixteen virtual lanes: every target gives the bits of the plain definition, and Exp and Tanh are as near to the
// truth as their header says.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kvcache/simd/half.h"
#include "kvcache/simd/isa.h"
#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/kvcache/simd/vec16_test.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kvcache/simd/vec16-inl.h"

#ifndef NIBBLE_TESTS_KVCACHE_SIMD_VEC16_TEST_LANES_
#define NIBBLE_TESTS_KVCACHE_SIMD_VEC16_TEST_LANES_
namespace nibble::simd {

// The operations of one target over sixteen floats in memory.
struct Lanes {
  void (*exp)(const float* x, float* out);
  void (*tanh)(const float* x, float* out);
  void (*fma)(const float* a, const float* b, const float* c, float* out);
  void (*load_half)(const uint16_t* x, float* out);
  void (*store_half)(const float* x, uint16_t* out);
  float (*sum)(const float* x);
  float (*max)(const float* x);
};

}  // namespace nibble::simd
#endif  // NIBBLE_TESTS_KVCACHE_SIMD_VEC16_TEST_LANES_

HWY_BEFORE_NAMESPACE();
namespace nibble {
namespace simd {
namespace HWY_NAMESPACE {
namespace {

void ExpOf(const float* x, float* out) { Store(Exp(Load(x)), out); }
void TanhOf(const float* x, float* out) { Store(Tanh(Load(x)), out); }
void FmaOf(const float* a, const float* b, const float* c, float* out) { Store(Fma(Load(a), Load(b), Load(c)), out); }
void LoadHalfOf(const uint16_t* x, float* out) { Store(LoadHalf(x), out); }
void StoreHalfOf(const float* x, uint16_t* out) { StoreHalf(Load(x), out); }
float SumOf(const float* x) { return SumLanes(Load(x)); }
float MaxOf(const float* x) { return MaxLanes16(Load(x)); }

const Lanes& LanesOfTarget() {
  static constexpr Lanes kLanesOf = {ExpOf, TanhOf, FmaOf, LoadHalfOf, StoreHalfOf, SumOf, MaxOf};
  return kLanesOf;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace simd
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nibble::simd {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

const Lanes& LanesOf(Isa isa) { return NIBBLE_FOR_ISA(isa, LanesOfTarget()); }

uint32_t Bits(float x) { return std::bit_cast<uint32_t>(x); }

// Every `stride`-th float of both signs up to `limit`, a multiple of sixteen of them.
std::vector<float> Sweep(float limit, uint32_t stride) {
  std::vector<float> values;
  for (uint32_t bits = 0; bits <= Bits(limit); bits += stride) {
    values.push_back(std::bit_cast<float>(bits));
    values.push_back(-values.back());
  }
  values.resize((values.size() + 15) / 16 * 16);
  return values;
}

std::vector<float> Map(void (*function)(const float*, float*), const std::vector<float>& x) {
  std::vector<float> out(x.size());
  for (size_t i = 0; i < x.size(); i += 16) function(&x[i], &out[i]);
  return out;
}

std::vector<float> Random(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 100.0f);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// In units of the last place of a float near `want`.
double UlpsFrom(float got, double want) {
  const float near = static_cast<float>(want);
  return std::fabs(static_cast<double>(got) - want) / (std::nextafter(near, kInfinity) - near);
}

TEST(Vec16, ExpIsWithinOneAndAHalfUlpsAndTheSameEverywhere) {
  const std::vector<float> x = Sweep(200.0f, 1009);
  const std::vector<float> plain = Map(LanesOf(Isa::kScalar).exp, x);
  double worst = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] < -87.0f) {
      ASSERT_EQ(Bits(plain[i]), 0u) << x[i];
    } else if (x[i] > 88.3f) {
      ASSERT_NEAR(plain[i], std::exp(88.3), 1e-5 * std::exp(88.3)) << x[i];
    } else {
      worst = std::max(worst, UlpsFrom(plain[i], std::exp(static_cast<double>(x[i]))));
    }
  }
  EXPECT_LT(worst, 1.5);
  for (const Isa isa : SupportedIsas()) {
    const std::vector<float> got = Map(LanesOf(isa).exp, x);
    EXPECT_EQ(std::memcmp(got.data(), plain.data(), got.size() * sizeof(float)), 0) << Name(isa);
  }
}

TEST(Vec16, ExpAtItsEnds) {
  for (const Isa isa : SupportedIsas()) {
    const std::vector<float> x = {
        -kInfinity, std::nextafter(-87.0f, -88.0f), -87.0f, 0.0f, -0.0f, kInfinity, kNan, -kNan, -1e30f, 1e30f, 1e-40f};
    std::vector<float> padded = x;
    padded.resize(16);
    const std::vector<float> got = Map(LanesOf(isa).exp, padded);
    for (const size_t zero : {0, 1, 8}) EXPECT_EQ(Bits(got[zero]), 0u) << Name(isa);
    EXPECT_GT(got[2], 0.0f) << Name(isa);
    for (const size_t one : {3, 4, 10}) EXPECT_EQ(got[one], 1.0f) << Name(isa);
    EXPECT_EQ(got[5], got[9]) << Name(isa);
    EXPECT_TRUE(std::isfinite(got[5])) << Name(isa);
    EXPECT_TRUE(std::isnan(got[6]) && std::isnan(got[7])) << Name(isa);
  }
}

TEST(Vec16, TanhIsNearTheTruthAndTheSameEverywhere) {
  const std::vector<float> x = Sweep(100.0f, 4001);
  const std::vector<float> plain = Map(LanesOf(Isa::kScalar).tanh, x);
  for (size_t i = 0; i < x.size(); ++i) {
    ASSERT_NEAR(plain[i], std::tanh(static_cast<double>(x[i])), 2.5e-7) << x[i];
  }
  for (const Isa isa : SupportedIsas()) {
    const std::vector<float> got = Map(LanesOf(isa).tanh, x);
    EXPECT_EQ(std::memcmp(got.data(), plain.data(), got.size() * sizeof(float)), 0) << Name(isa);
    EXPECT_TRUE(std::isnan(Map(LanesOf(isa).tanh, std::vector<float>(16, kNan))[0])) << Name(isa);
  }
}

TEST(Vec16, FmaRoundsOnce) {
  const std::vector<float> a = Random(1600, 1), b = Random(1600, 2), c = Random(1600, 3);
  for (const Isa isa : SupportedIsas()) {
    for (size_t i = 0; i < a.size(); i += 16) {
      float got[16];
      LanesOf(isa).fma(&a[i], &b[i], &c[i], got);
      for (size_t j = 0; j < 16; ++j) EXPECT_EQ(Bits(got[j]), Bits(std::fma(a[i + j], b[i + j], c[i + j])));
    }
  }
}

TEST(Vec16, EveryHalfLoadsAsThePlainCodeLoadsIt) {
  for (const Isa isa : SupportedIsas()) {
    for (uint32_t first = 0; first < 0x10000; first += 16) {
      uint16_t halves[16];
      float got[16];
      for (uint32_t i = 0; i < 16; ++i) halves[i] = static_cast<uint16_t>(first + i);
      LanesOf(isa).load_half(halves, got);
      for (uint32_t i = 0; i < 16; ++i) {
        const float want = HalfToFloat(halves[i]);
        if (std::isnan(want)) {
          ASSERT_TRUE(std::isnan(got[i])) << Name(isa) << " " << halves[i];
        } else {
          ASSERT_EQ(Bits(got[i]), Bits(want)) << Name(isa) << " " << halves[i];
        }
      }
    }
  }
}

TEST(Vec16, FloatsStoreAsHalvesAsThePlainCodeStoresThem) {
  std::vector<float> x = Sweep(kInfinity, 4099);
  x.insert(x.end(), {kNan, -kNan, 65519.996f, 65520.0f, -65520.0f, 0x1p-25f, 0x1.8p-24f, 1.0f + 0x1p-11f});
  x.resize((x.size() + 15) / 16 * 16);
  for (const Isa isa : SupportedIsas()) {
    for (size_t i = 0; i < x.size(); i += 16) {
      uint16_t got[16];
      LanesOf(isa).store_half(&x[i], got);
      for (size_t j = 0; j < 16; ++j) ASSERT_EQ(got[j], FloatToHalf(x[i + j])) << Name(isa) << " " << x[i + j];
    }
  }
}

TEST(Vec16, SumsAndMaximaFollowTheTree) {
  const std::vector<float> x = Random(1600, 4);
  for (const Isa isa : SupportedIsas()) {
    for (size_t i = 0; i < x.size(); i += 16) {
      const float* lanes = &x[i];
      // Lane j joins j + 8, then + 4, + 2, + 1: written out.
      const auto pair = [&](int j) { return lanes[j] + lanes[j + 8]; };
      const auto four = [&](int j) { return pair(j) + pair(j + 4); };
      EXPECT_EQ(Bits(LanesOf(isa).sum(lanes)), Bits((four(0) + four(2)) + (four(1) + four(3)))) << Name(isa);
      EXPECT_EQ(LanesOf(isa).max(lanes), *std::max_element(lanes, lanes + 16)) << Name(isa);
    }
  }
}

}  // namespace
}  // namespace nibble::simd
#endif  // HWY_ONCE
