// K-means against a naive twin, and what it promises whatever the samples.
#include "engine/quant/calibration/kmeans.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "engine/quant/calibration/rate_allocation.h"
#include "engine/quant/calibration/seeded_random.h"
#include "gmock/gmock.h"

namespace nibble::engine {
namespace {

using Floats = std::vector<float>;

KmeansSamples NormalSamples(int dims, int64_t count, float mean, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(mean, 1.0f);
  KmeansSamples samples(dims, count);
  for (int64_t i = 0; i < count; ++i) {
    for (int d = 0; d < dims; ++d) samples.values[static_cast<size_t>(d * samples.stride + i)] = normal(random);
    samples.weights[static_cast<size_t>(i)] = 0.25f + static_cast<float>(random() % 8);
  }
  return samples;
}

// Samples on whole numbers: every sum and product is exact.
KmeansSamples WholeSamples(int dims, int64_t count, int values, uint32_t seed) {
  std::mt19937 random(seed);
  KmeansSamples samples(dims, count);
  for (int64_t i = 0; i < count; ++i) {
    for (int d = 0; d < dims; ++d) {
      samples.values[static_cast<size_t>(d * samples.stride + i)] = static_cast<float>(random() % values);
    }
    samples.weights[static_cast<size_t>(i)] = static_cast<float>(1 + random() % 3);
  }
  return samples;
}

float Value(const KmeansSamples& samples, int d, int64_t i) {
  return samples.values[static_cast<size_t>(d * samples.stride + i)];
}

KmeansOptions Options(int centroids, int iterations, uint64_t seed) {
  KmeansOptions options;
  options.centroids = centroids;
  options.iterations = iterations;
  options.seed = seed;
  options.isa = simd::SupportedIsas().back();
  return options;
}

double SquaredDistance(const KmeansSamples& samples, const Floats& centroids, int64_t i, size_t c) {
  double sum = 0.0;
  for (int d = 0; d < samples.dims; ++d) {
    const double apart =
        double{Value(samples, d, i)} - centroids[c * static_cast<size_t>(samples.dims) + static_cast<size_t>(d)];
    sum += apart * apart;
  }
  return sum;
}

double Loss(const KmeansSamples& samples, const Floats& centroids) {
  double loss = 0.0;
  for (int64_t i = 0; i < samples.count; ++i) {
    double least = HUGE_VAL;
    for (size_t c = 0; c < centroids.size() / static_cast<size_t>(samples.dims); ++c) {
      least = std::min(least, SquaredDistance(samples, centroids, i, c));
    }
    loss += samples.weights[static_cast<size_t>(i)] * least;
  }
  return loss;
}

// One sample and one centroid at a time.
class Twin {
 public:
  Twin(const KmeansSamples& samples, const KmeansOptions& options)
      : samples_(samples), options_(options), random_(options.seed) {}

  Floats Run() {
    std::vector<double> mass(samples_.weights.begin(), samples_.weights.end());
    Append(Draw(mass));
    mass.assign(mass.size(), HUGE_VAL);
    while (static_cast<int>(centroids_.size()) < options_.centroids) {
      for (int64_t i = 0; i < samples_.count; ++i) {
        const double loss = LossAt(i, ScoreOf(i, Nearest(i, centroids_.size() - 1)));
        mass[static_cast<size_t>(i)] = std::min(mass[static_cast<size_t>(i)], loss);
      }
      Append(Draw(mass));
    }
    for (int i = 0; i < options_.iterations && Step(); ++i) {
    }
    Floats flat;
    for (const Floats& centroid : centroids_) flat.insert(flat.end(), centroid.begin(), centroid.end());
    return flat;
  }

  int reseeded() const { return reseeded_; }

 private:
  void Append(int64_t i) { centroids_.push_back(At(i)); }
  Floats At(int64_t i) const {
    Floats x;
    for (int d = 0; d < samples_.dims; ++d) x.push_back(Value(samples_, d, i));
    return x;
  }

  // A centroid, of a mirrored codebook with signs turned: bit 0 of even dimensions, bit 1 of odd ones.
  struct Choice {
    size_t centroid;
    int signs;
  };
  float Signed(float x, size_t d, int signs) const { return (signs >> d % 2 & 1) != 0 ? -x : x; }
  float ScoreOf(int64_t i, Choice choice) const {
    Floats centroid = centroids_[choice.centroid];
    for (size_t d = 0; d < centroid.size(); ++d) centroid[d] = Signed(centroid[d], d, choice.signs);
    return Score(i, centroid);
  }
  // Among the centroids from `first` on.
  Choice Nearest(int64_t i, size_t first) const {
    Choice nearest = {first, 0};
    for (int signs = 0; signs < (options_.mirrored ? 4 : 1); ++signs) {
      for (size_t c = first; c < centroids_.size(); ++c) {
        if (ScoreOf(i, {c, signs}) > ScoreOf(i, nearest)) nearest = {c, signs};
      }
    }
    return nearest;
  }

  float Score(int64_t i, const Floats& centroid) const {
    float half = 0.0f;
    for (const float c : centroid) half += 0.5f * c * c;
    float score = -half;
    for (int d = 0; d < samples_.dims; ++d) {
      score = std::fma(Value(samples_, d, i), centroid[static_cast<size_t>(d)], score);
    }
    return score;
  }
  double LossAt(int64_t i, float score) const {
    float energy = 0.0f;
    for (const float x : At(i)) energy += 0.5f * x * x;
    return samples_.weights[static_cast<size_t>(i)] * std::max(0.0, double{energy} - double{score});
  }

  int64_t Draw(const std::vector<double>& mass) {
    double total = 0.0;
    for (const double m : mass) total += m;
    double left = random_.Uniform() * total;
    for (size_t i = 0; i < mass.size(); ++i) {
      left -= mass[i];
      if (left < 0 && mass[i] > 0) return static_cast<int64_t>(i);
    }
    return static_cast<int64_t>(random_.Next() % mass.size());
  }

  struct Member {
    int64_t sample;
    int signs;
  };

  bool Step() {
    std::vector<std::vector<Member>> clusters(centroids_.size());
    std::vector<double> losses;
    for (int64_t i = 0; i < samples_.count; ++i) {
      const Choice nearest = Nearest(i, 0);
      clusters[nearest.centroid].push_back({i, nearest.signs});
      losses.push_back(LossAt(i, ScoreOf(i, nearest)));
    }
    bool moved = false;
    for (size_t c = 0; c < clusters.size(); ++c) {
      const Floats next = clusters[c].empty() ? Worst(losses, centroids_[c]) : Mean(clusters[c]);
      moved |= next != centroids_[c];
      centroids_[c] = next;
    }
    return moved;
  }
  Floats Mean(const std::vector<Member>& cluster) const {
    Floats mean;
    for (int d = 0; d < samples_.dims; ++d) {
      double sum = 0.0, weight = 0.0;
      for (const auto& [i, signs] : cluster) {
        sum += double{samples_.weights[static_cast<size_t>(i)]} *
               Signed(Value(samples_, d, i), static_cast<size_t>(d), signs);
        weight += samples_.weights[static_cast<size_t>(i)];
      }
      mean.push_back(static_cast<float>(sum / weight));
    }
    return mean;
  }
  Floats Worst(std::vector<double>& losses, const Floats& stay) {
    const auto worst = std::max_element(losses.begin(), losses.end());
    if (!(*worst > 0)) return stay;
    *worst = 0.0;
    ++reseeded_;
    return At(worst - losses.begin());
  }

  const KmeansSamples& samples_;
  const KmeansOptions& options_;
  SeededRandom random_;
  std::vector<Floats> centroids_;
  int reseeded_ = 0;
};

TEST(Kmeans, EqualsANaiveTwinOnEveryInstructionSet) {
  for (const int dims : {1, 2, 3, 5, 16}) {
    for (const int64_t count : {1, 5, 16, 17, 100, 333}) {
      const KmeansSamples samples = NormalSamples(dims, count, 0.0f, static_cast<uint32_t>(count));
      KmeansOptions options = Options(24, 6, 9);
      const Floats want = Twin(samples, options).Run();
      for (const simd::Isa isa : simd::SupportedIsas()) {
        options.isa = isa;
        EXPECT_EQ(Kmeans(samples, options), want) << dims << " x " << count << " on " << simd::Name(isa);
      }
    }
  }
}

TEST(Kmeans, MirroredEqualsItsTwin) {
  for (const int dims : {1, 2, 3, 5}) {
    for (const int64_t count : {1, 17, 200}) {
      const KmeansSamples samples = NormalSamples(dims, count, 0.5f, static_cast<uint32_t>(count));
      KmeansOptions options = Options(12, 6, 9);
      options.mirrored = true;
      EXPECT_EQ(Kmeans(samples, options), Twin(samples, options).Run()) << dims << " x " << count;
    }
  }
}

TEST(Kmeans, OfSymmetricSamplesAQuarterOfTheCentroidsMirroredDoesAsWell) {
  const KmeansSamples samples = NormalSamples(4, 6000, 0.0f, 5);
  KmeansOptions options = Options(16, 16, 1);
  options.mirrored = true;
  const Floats mirrored = Mirrored(Kmeans(samples, options), 4);
  ASSERT_EQ(mirrored.size(), 64u * 4);
  EXPECT_LT(Loss(samples, mirrored), 1.06 * Loss(samples, Kmeans(samples, Options(64, 16, 1))));
}

TEST(Kmeans, MirroredCentroidsAreInTheOrderOfCodes) {
  EXPECT_EQ(Mirrored({1, 2, 3, 4, 5, 6}, 3),
            Floats({1, 2, 3, 4, 5, 6, -1, 2, -3, -4, 5, -6, 1, -2, 3, 4, -5, 6, -1, -2, -3, -4, -5, -6}));
}

TEST(Kmeans, SeedsEmptyClustersAnewWhereTheLossIsLargest) {
  // So far from 0 that seeds fall on the same place more than once.
  int reseeded = 0;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    KmeansSamples samples = WholeSamples(2, 60, 6, static_cast<uint32_t>(seed));
    for (float& value : samples.values) value += 5000.3f;
    const KmeansOptions options = Options(20, 4, seed);
    Twin twin(samples, options);
    EXPECT_EQ(Kmeans(samples, options), twin.Run());
    reseeded += twin.reseeded();
  }
  EXPECT_GT(reseeded, 0) << "no cluster was ever empty";
}

TEST(Kmeans, IsNeverWorseAfterMoreIterations) {
  for (const uint32_t seed : {1, 2, 3}) {
    const KmeansSamples samples = NormalSamples(3, 500, 2.0f, seed);
    double before = HUGE_VAL;
    for (int iterations = 0; iterations < 16; ++iterations) {
      const double loss = Loss(samples, Kmeans(samples, Options(32, iterations, seed)));
      EXPECT_LE(loss, before * (1 + 1e-6)) << iterations << " iterations";
      before = loss;
    }
  }
}

TEST(Kmeans, LosesNothingWhereCentroidsAreEnough) {
  for (const int64_t count : {1, 2, 15, 16, 17, 255, 256, 700}) {
    KmeansSamples samples = WholeSamples(2, count, 16, 5);  // at most 256 places
    const Floats centroids = Kmeans(samples, Options(256, 4, 1));
    ASSERT_EQ(centroids.size(), 512u);
    EXPECT_EQ(Loss(samples, centroids), 0.0) << count;
  }
}

TEST(Kmeans, AWeightIsAsManyEqualSamples) {
  const KmeansSamples weighted = WholeSamples(2, 120, 50, 8);
  std::vector<int64_t> repeated;
  for (int64_t i = 0; i < weighted.count; ++i) {
    repeated.insert(repeated.end(), static_cast<size_t>(weighted.weights[static_cast<size_t>(i)]), i);
  }
  KmeansSamples plain(2, static_cast<int64_t>(repeated.size()));
  plain.weights.assign(repeated.size(), 1.0f);
  for (int d = 0; d < 2; ++d) {
    for (size_t i = 0; i < repeated.size(); ++i) {
      plain.values[static_cast<size_t>(d * plain.stride) + i] = Value(weighted, d, repeated[i]);
    }
  }
  for (uint64_t seed = 0; seed < 5; ++seed) {
    EXPECT_EQ(Kmeans(weighted, Options(7, 12, seed)), Kmeans(plain, Options(7, 12, seed)));
  }
}

TEST(Kmeans, WeightlessSamplesPullNothing) {
  KmeansSamples samples = WholeSamples(1, 40, 8, 2);
  for (int64_t i = 20; i < 40; ++i) {
    samples.values[static_cast<size_t>(i)] = 1e4f;
    samples.weights[static_cast<size_t>(i)] = 0.0f;
  }
  for (const float c : Kmeans(samples, Options(4, 8, 1))) EXPECT_LT(c, 8.0f);
  std::fill(samples.weights.begin(), samples.weights.end(), 0.0f);
  for (const float c : Kmeans(samples, Options(4, 8, 1))) EXPECT_TRUE(std::isfinite(c));
}

TEST(Kmeans, SeedsSpreadByLoss) {
  // Sixteen clumps far apart: a seed falls into each, since only a clump without one loses anything much.
  KmeansSamples samples = WholeSamples(2, 800, 2, 3);
  for (int64_t i = 0; i < samples.count; ++i) {
    samples.values[static_cast<size_t>(i)] += static_cast<float>(1000 * (i % 4));
    samples.values[static_cast<size_t>(samples.stride + i)] += static_cast<float>(1000 * (i / 4 % 4));
  }
  std::set<std::pair<int, int>> clumps;
  const Floats seeds = Kmeans(samples, Options(16, 0, 4));
  for (size_t c = 0; c < 16; ++c) {
    clumps.emplace(static_cast<int>(seeds[2 * c]) / 1000, static_cast<int>(seeds[2 * c + 1]) / 1000);
  }
  EXPECT_EQ(clumps.size(), 16u);
}

TEST(NearestCentroids, AreTheNearest) {
  for (int dims = 1; dims <= kMaxGroupCoefficients; ++dims) {
    const KmeansSamples samples = NormalSamples(dims, 77, 0.5f, static_cast<uint32_t>(dims));
    const Floats centroids = Kmeans(samples, Options(40, 1, 1));
    for (const simd::Isa isa : simd::SupportedIsas()) {
      const std::vector<int32_t> nearest = NearestCentroids(samples, centroids, isa);
      ASSERT_EQ(static_cast<int64_t>(nearest.size()), samples.stride);
      for (int64_t i = 0; i < samples.count; ++i) {
        double least = HUGE_VAL;
        for (size_t c = 0; c < 40; ++c) least = std::min(least, SquaredDistance(samples, centroids, i, c));
        const auto chosen = static_cast<size_t>(nearest[static_cast<size_t>(i)]);
        EXPECT_LE(SquaredDistance(samples, centroids, i, chosen), least + 1e-5) << "sample " << i << ", dims " << dims;
      }
    }
  }
}

TEST(NearestCentroids, OfEqualsIsTheFirst) {
  KmeansSamples samples(1, 18);
  for (size_t i = 0; i < 18; ++i) samples.values[i] = static_cast<float>(i % 3);
  for (const simd::Isa isa : simd::SupportedIsas()) {
    const std::vector<int32_t> nearest = NearestCentroids(samples, {9, 2, 0, 2, 0, 9}, isa);
    for (size_t i = 0; i < 18; ++i) EXPECT_EQ(nearest[i], i % 3 == 0 ? 2 : 1) << i;  // 1 is as far from 0 as from 2
  }
}

}  // namespace
}  // namespace nibble::engine
