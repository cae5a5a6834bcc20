// Moments against naive sums; what a sample promises.
#include "engine/quant/calibration/vector_statistics.h"

#include <cmath>
#include <random>

#include "gmock/gmock.h"
#include "kvcache/simd/half.h"

namespace nibble::engine {
namespace {

constexpr int kDim = 6;
constexpr size_t kCount = 200;

// Weights over eight powers of ten; every fifth token has none. The first channel tells the token.
struct Fixture {
  Fixture() {
    std::mt19937 random(11);
    std::normal_distribution<float> normal;
    for (size_t t = 0; t < kCount; ++t) {
      vectors.push_back(static_cast<float>(t));
      for (int d = 1; d < kDim; ++d) vectors.push_back(normal(random));
      weights.push_back(t % 5 == 0 ? 0.0f : std::pow(10.0f, static_cast<float>(random() % 9) - 8));
    }
  }
  VectorStatistics Add(int64_t keep, uint64_t seed) const {
    VectorStatistics statistics(kDim);
    statistics.Add(vectors, weights, keep, seed);
    return statistics;
  }

  std::vector<float> vectors, weights;
};

size_t TokenOf(const VectorStatistics& statistics, size_t sample) {
  return static_cast<size_t>(simd::HalfToFloat(statistics.samples[sample * kDim]));
}

TEST(VectorStatistics, MomentsEqualNaiveSums) {
  const Fixture f;
  VectorStatistics statistics(kDim);
  statistics.Add(f.vectors, f.weights, 16, 1);
  statistics.Add(f.vectors, f.weights, 16, 2);
  double weight = 0.0;
  std::vector<double> sum(kDim), moment(kDim * kDim);
  for (size_t t = 0; t < kCount; ++t) {
    const double w = 2.0 * f.weights[t];
    const float* x = f.vectors.data() + t * kDim;
    weight += w;
    for (size_t i = 0; i < kDim; ++i) {
      sum[i] += w * x[i];
      for (size_t j = 0; j < kDim; ++j) moment[i * kDim + j] += w * x[i] * x[j];
    }
  }
  EXPECT_NEAR(statistics.weight, weight, 1e-12 * weight);
  EXPECT_THAT(statistics.sum, testing::Pointwise(testing::DoubleNear(1e-9), sum));
  EXPECT_THAT(statistics.moment, testing::Pointwise(testing::DoubleNear(1e-7), moment));
}

TEST(VectorStatistics, MetricsAddUp) {
  VectorStatistics statistics(2);
  statistics.AddMetric({1, 2, 3, 4}, 10.0);
  statistics.AddMetric({1, 0, 0, 1}, 0.5);
  EXPECT_THAT(statistics.metric, testing::ElementsAre(10.5, 20, 30, 40.5));
}

TEST(VectorStatistics, SamplesAreTheTokensThemselves) {
  const Fixture f;
  const VectorStatistics statistics = f.Add(60, 3);
  ASSERT_EQ(statistics.samples.size(), static_cast<size_t>(statistics.num_samples() * kDim));
  EXPECT_LE(statistics.num_samples(), 61);
  EXPECT_GE(statistics.num_samples(), 10);
  for (size_t i = 0; i < statistics.sample_weights.size(); ++i) {
    const size_t t = TokenOf(statistics, i);
    EXPECT_GT(f.weights[t], 0.0f) << "a token without weight was drawn";
    EXPECT_GT(statistics.sample_weights[i], 0.0f);
    for (size_t d = 0; d < kDim; ++d) {
      EXPECT_EQ(statistics.samples[i * kDim + d], simd::FloatToHalf(f.vectors[t * kDim + d]));
    }
  }
}

TEST(VectorStatistics, SamplesStandForAllTokens) {
  const Fixture f;
  constexpr int kSeeds = 4000;
  std::vector<double> mean(kCount), square(kCount);
  double total = 0.0, weight = 0.0;
  for (int seed = 0; seed < kSeeds; ++seed) {
    const VectorStatistics statistics = f.Add(40, static_cast<uint64_t>(seed));
    weight = statistics.weight;
    for (size_t i = 0; i < statistics.sample_weights.size(); ++i) {
      const double w = statistics.sample_weights[i];
      total += w / kSeeds;
      mean[TokenOf(statistics, i)] += w / kSeeds;
      square[TokenOf(statistics, i)] += w * w / kSeeds;
    }
  }
  EXPECT_NEAR(total, weight, 0.02 * weight);
  for (size_t t = 0; t < kCount; ++t) {
    // Five standard errors; drawn one time in 20 at least, since a quarter of 40 draws goes to 200 tokens evenly.
    const double error = std::sqrt(std::max(0.0, square[t] - mean[t] * mean[t]) / kSeeds);
    EXPECT_NEAR(mean[t], f.weights[t], 5 * error + 1e-6 * f.weights[t]) << "token " << t;
  }
}

TEST(VectorStatistics, TheSeedDecides) {
  const Fixture f;
  const VectorStatistics a = f.Add(40, 5), same = f.Add(40, 5), other = f.Add(40, 6);
  EXPECT_EQ(a.samples, same.samples);
  EXPECT_EQ(a.sample_weights, same.sample_weights);
  EXPECT_NE(a.samples, other.samples);
}

TEST(VectorStatistics, EveryTokenOnceWhereMoreAreAskedThanThereAre) {
  const Fixture f;
  const VectorStatistics statistics = f.Add(10000, 1);
  EXPECT_EQ(statistics.num_samples(), static_cast<int64_t>(kCount - kCount / 5));
}

TEST(VectorStatistics, WithoutWeightThereIsNothing) {
  VectorStatistics statistics(kDim);
  statistics.Add(std::vector<float>(5 * kDim, 1.0f), std::vector<float>(5, 0.0f), 16, 1);
  EXPECT_EQ(statistics.weight, 0.0);
  EXPECT_EQ(statistics.num_samples(), 0);
  statistics.Add({}, {}, 16, 1);
  EXPECT_EQ(statistics.num_samples(), 0);
}

TEST(EmptyStatistics, HaveTheShapeOfTheModel) {
  const KvStatistics statistics = EmptyStatistics(3, 2, 16);
  EXPECT_EQ(statistics.head_dim, 16);
  ASSERT_EQ(statistics.layers.size(), 3u);
  EXPECT_EQ(statistics.layers[2].keys.size(), 2u);
  EXPECT_EQ(statistics.layers[2].values[1].metric.size(), 256u);
}

}  // namespace
}  // namespace nibble::engine
