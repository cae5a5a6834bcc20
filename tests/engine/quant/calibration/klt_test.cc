// The transform against what it is defined by, in naive loops.
#include "engine/quant/calibration/klt.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "gmock/gmock.h"

namespace nibble::engine {
namespace {

using Doubles = std::vector<double>;
using Random = std::mt19937;

Doubles RandomMatrix(int rows, int cols, Random& random) {
  std::normal_distribution<double> normal;
  Doubles matrix(static_cast<size_t>(rows * cols));
  for (double& x : matrix) x = normal(random);
  return matrix;
}

double At(const Doubles& matrix, int cols, int row, int col) { return matrix[static_cast<size_t>(row * cols + col)]; }

Doubles Product(const Doubles& a, const Doubles& b, int n) {
  Doubles product(a.size());
  for (int i = 0; i < n; ++i) {
    for (int k = 0; k < n; ++k) {
      for (int j = 0; j < n; ++j) product[static_cast<size_t>(i * n + j)] += At(a, n, i, k) * At(b, n, k, j);
    }
  }
  return product;
}

Doubles Transposed(const Doubles& a, int n) {
  Doubles result;
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) result.push_back(At(a, n, j, i));
  }
  return result;
}

// Vectors with a mean and correlations, and a metric far from round.
struct Fixture {
  explicit Fixture(int dim, uint32_t seed) : random(seed), statistics(dim) {
    std::normal_distribution<float> normal;
    const Doubles mix = RandomMatrix(dim, dim, random);
    constexpr int kCount = 300;
    std::vector<float> vectors, weights;
    for (int t = 0; t < kCount; ++t) {
      Doubles z(static_cast<size_t>(dim));
      for (int d = 0; d < dim; ++d) z[static_cast<size_t>(d)] = std::exp2(-d) * normal(random);
      for (int i = 0; i < dim; ++i) {
        double x = 10.0 * (i % 3);
        for (int d = 0; d < dim; ++d) x += At(mix, dim, i, d) * z[static_cast<size_t>(d)];
        vectors.push_back(static_cast<float>(x));
      }
      weights.push_back(static_cast<float>(1 + t % 7));
    }
    statistics.Add(vectors, weights, 16, 1);
    const Doubles root = RandomMatrix(dim, dim, random);
    statistics.AddMetric(Product(Transposed(root, dim), root, dim), 37.0);
    for (int i = 0; i < dim; ++i) {
      for (int j = 0; j < dim; ++j) {
        const auto at = static_cast<size_t>(i * dim + j);
        covariance.push_back(statistics.moment[at] / statistics.weight -
                             Mean(static_cast<size_t>(i)) * Mean(static_cast<size_t>(j)));
      }
    }
  }
  double Mean(size_t i) const { return statistics.sum[i] / statistics.weight; }

  Random random;
  VectorStatistics statistics;
  Doubles covariance;
};

constexpr int kDims[] = {2, 7, 16};

TEST(UnitMetric, IsShrunkTowardItsMeanDiagonal) {
  Fixture f(5, 1);
  double trace = 0.0;
  for (int i = 0; i < 5; ++i) trace += At(f.statistics.metric, 5, i, i);
  const Doubles unit = UnitMetric(f.statistics, 0.25);
  for (int i = 0; i < 5; ++i) {
    for (int j = 0; j < 5; ++j) {
      const double want = 0.75 * At(f.statistics.metric, 5, i, j) * 5 / trace + (i == j ? 0.25 : 0.0);
      EXPECT_NEAR(At(unit, 5, i, j), want, 1e-12);
    }
  }
}

TEST(MakeKlt, SynthesisUndoesAnalysis) {
  for (const int dim : kDims) {
    const Klt klt = MakeKlt(Fixture(dim, 2).statistics, 0.05);
    const Doubles both = Product(klt.synthesis, klt.analysis, dim);
    for (int i = 0; i < dim; ++i) {
      for (int j = 0; j < dim; ++j) EXPECT_NEAR(At(both, dim, i, j), i == j ? 1.0 : 0.0, 1e-9) << i << ", " << j;
    }
  }
}

TEST(MakeKlt, CoefficientsAreUncorrelatedWithFallingVariances) {
  for (const int dim : kDims) {
    const Fixture f(dim, 3);
    const Klt klt = MakeKlt(f.statistics, 0.05);
    ASSERT_EQ(klt.dim, dim);
    ASSERT_EQ(klt.variances.size(), static_cast<size_t>(dim));
    EXPECT_TRUE(std::is_sorted(klt.variances.rbegin(), klt.variances.rend()));
    for (int i = 0; i < dim; ++i) EXPECT_NEAR(klt.mean[static_cast<size_t>(i)], f.Mean(static_cast<size_t>(i)), 1e-12);
    const Doubles seen = Product(Product(klt.analysis, f.covariance, dim), Transposed(klt.analysis, dim), dim);
    const double largest = klt.variances[0];
    for (int i = 0; i < dim; ++i) {
      for (int j = 0; j < dim; ++j) {
        const double want = i == j ? klt.variances[static_cast<size_t>(i)] : 0.0;
        EXPECT_NEAR(At(seen, dim, i, j), want, 1e-10 * largest) << i << ", " << j;
      }
    }
  }
}

TEST(MakeKlt, SquaredErrorOfCoefficientsIsTheErrorInTheMetric) {
  for (const int dim : kDims) {
    Fixture f(dim, 4);
    const Doubles unit = UnitMetric(f.statistics, 0.05);
    const Klt klt = MakeKlt(f.statistics, 0.05);
    const Doubles error = RandomMatrix(dim, 1, f.random);
    double in_metric = 0.0, of_coefficients = 0.0;
    for (int i = 0; i < dim; ++i) {
      double z = 0.0;
      for (int j = 0; j < dim; ++j) {
        z += At(klt.analysis, dim, i, j) * error[static_cast<size_t>(j)];
        in_metric += error[static_cast<size_t>(i)] * At(unit, dim, i, j) * error[static_cast<size_t>(j)];
      }
      of_coefficients += z * z;
    }
    EXPECT_NEAR(of_coefficients, in_metric, 1e-10 * in_metric);
  }
}

TEST(MakeKlt, IsAPlainKltWhereTheMetricIsShrunkAway) {
  const Klt klt = MakeKlt(Fixture(7, 5).statistics, 1.0);
  const Doubles transposed = Transposed(klt.analysis, 7);
  for (size_t i = 0; i < transposed.size(); ++i) EXPECT_NEAR(klt.synthesis[i], transposed[i], 1e-12);
}

TEST(MakeKlt, ConstantVectorsHaveNoVariance) {
  VectorStatistics statistics(4);
  statistics.Add(std::vector<float>(40, 3.0f), std::vector<float>(10, 1e-12f), 16, 1);
  statistics.AddMetric({1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 1e-12);
  const Klt klt = MakeKlt(statistics, 0.05);
  for (const double variance : klt.variances) EXPECT_NEAR(variance, 0.0, 1e-12);
  for (const double x : klt.synthesis) EXPECT_TRUE(std::isfinite(x));
}

}  // namespace
}  // namespace nibble::engine
