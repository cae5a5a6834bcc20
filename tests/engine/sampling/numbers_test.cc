// The sampler's own arithmetic: Philox, the logarithm, and the passes on every instruction set.
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "engine/sampling/log_reference.h"
#include "engine/sampling/philox.h"
#include "engine/sampling/vocab_passes.h"
#include "gmock/gmock.h"

namespace nibble::engine {
namespace {

using Words = std::array<uint32_t, 4>;

// Known answers of the authors' Random123 1.14 (kat_vectors, philox4x32 10).
TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT_EQ(Philox4x32({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, DrawsAreUniformOverIndexAndOverSeed) {
  for (const bool over_seed : {false, true}) {
    std::array<int, 16> bins{};
    for (uint64_t i = 0; i < 16000; ++i) {
      const double u = over_seed ? UniformDraw(i, 3) : UniformDraw(7, i);
      ASSERT_GE(u, 0.0);
      ASSERT_LT(u, 1.0);
      ++bins[static_cast<size_t>(u * 16)];
    }
    double chi_square = 0;
    for (const int count : bins) chi_square += (count - 1000.0) * (count - 1000.0) / 1000.0;
    EXPECT_LT(chi_square, 37.7);  // 15 degrees of freedom, p = 0.001
  }
}

TEST(LogReference, AgreesWithTheLibrary) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> exponent(-80, 80);
  for (int i = 0; i < 20000; ++i) {
    const double x = std::exp(exponent(random));
    EXPECT_NEAR(LogReference(x), std::log(x), 1e-14 * std::max(1.0, std::abs(std::log(x)))) << x;
  }
  EXPECT_EQ(LogReference(1.0), 0.0);
}

std::vector<float> RandomLogits(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 5.0f);
  std::vector<float> logits(size);
  for (float& logit : logits) logit = std::round(normal(random) * 8.0f) / 8.0f;  // ties occur
  return logits;
}

class PassesTest : public testing::TestWithParam<simd::Isa> {
 protected:
  const VocabPasses& passes_ = VocabPassesFor(GetParam());
};

TEST_P(PassesTest, AgreesWithPlainLoopsAtEverySize) {
  for (const size_t size : {1, 2, 15, 16, 17, 31, 100, 1023, 1024, 1025, 5000}) {
    const std::vector<float> logits = RandomLogits(size, static_cast<uint32_t>(size));
    const auto largest = std::max_element(logits.begin(), logits.end());
    EXPECT_EQ(passes_.max(logits), *largest);
    EXPECT_EQ(passes_.first_equal(logits, *largest), largest - logits.begin());
    std::vector<Candidate> collected;
    passes_.collect(logits, 2.0f, &collected);
    std::vector<Candidate> expected;
    for (size_t i = 0; i < size; ++i) {
      if (logits[i] >= 2.0f) expected.push_back({static_cast<int32_t>(i), logits[i], 0.0f});
    }
    ASSERT_EQ(collected.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(collected[i].id, expected[i].id);
  }
}

TEST_P(PassesTest, FirstEqualFindsAValueBelowTheMaximum) {
  const std::vector<float> logits = {5, 4, 3, 4, 1, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 3};
  EXPECT_EQ(passes_.first_equal(logits, 3.0f), 2);
  EXPECT_EQ(passes_.first_equal(logits, 9.0f), 6);
  EXPECT_EQ(passes_.first_equal(logits, 2.0f), -1);
}

TEST_P(PassesTest, SeesEveryNonFiniteLogit) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (size_t at = 0; at < 37; ++at) {
      std::vector<float> logits(37, 1e38f);
      EXPECT_TRUE(passes_.all_finite(logits));
      logits[at] = bad;
      EXPECT_FALSE(passes_.all_finite(logits)) << bad << " at " << at;
    }
  }
}

TEST_P(PassesTest, ExponentialsAreAccurateAndTheirSumsTheSameBitsOnEveryTarget) {
  const VocabPasses& reference = VocabPassesFor(simd::Isa::kScalar);
  const std::vector<float> logits = RandomLogits(3000, 9);
  const float max = passes_.max(logits);
  std::vector<float> values(logits.size()), reference_values(logits.size()), sums(3), reference_sums(3);
  passes_.exponentials(logits, max, 0.7f, values.data());
  reference.exponentials(logits, max, 0.7f, reference_values.data());
  EXPECT_EQ(values, reference_values);
  for (size_t i = 0; i < logits.size(); ++i) {
    const double exact = std::exp(static_cast<double>((logits[i] - max) * 0.7f));
    EXPECT_NEAR(values[i], exact, 3e-7 * exact);
  }
  passes_.exp_sums(logits, max, 0.7f, sums.data());
  reference.exp_sums(logits, max, 0.7f, reference_sums.data());
  EXPECT_EQ(sums, reference_sums);
  double block = 0;
  for (size_t i = 1024; i < 2048; ++i) block += values[i];
  EXPECT_NEAR(sums[1], block, 1e-6 * block);
}

INSTANTIATE_TEST_SUITE_P(EveryIsa, PassesTest, testing::ValuesIn(simd::SupportedIsas()),
                         [](const auto& info) { return std::string(simd::Name(info.param)); });

}  // namespace
}  // namespace nibble::engine
