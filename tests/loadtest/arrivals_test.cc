#include "loadtest/arrivals.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "gtest/gtest.h"

namespace nibble::loadtest {
namespace {

struct Moments {
  double mean, variance;
};

Moments GapMoments(const std::vector<double>& seconds) {
  double sum = 0, squares = 0;
  for (size_t i = 1; i < seconds.size(); ++i) {
    const double gap = seconds[i] - seconds[i - 1];
    EXPECT_GE(gap, 0);
    sum += gap;
    squares += gap * gap;
  }
  const double count = static_cast<double>(seconds.size() - 1);
  return {sum / count, squares / count - (sum / count) * (sum / count)};
}

TEST(Arrivals, InfiniteRateSendsAllAtOnce) {
  const double inf = std::numeric_limits<double>::infinity();
  EXPECT_EQ(ArrivalSeconds(3, {inf, 1, 0, 0}), (std::vector<double>{0, 0, 0}));
}

TEST(Arrivals, GapsHaveTheMomentsOfTheGammaDistribution) {
  for (const double burstiness : {0.5, 1.0, 4.0}) {
    const std::vector<double> seconds = ArrivalSeconds(100'000, {20, burstiness, 0, 7});
    EXPECT_EQ(seconds[0], 0);
    const Moments gaps = GapMoments(seconds);
    EXPECT_NEAR(gaps.mean, 1 / 20.0, 0.001) << burstiness;
    EXPECT_NEAR(gaps.variance, 1 / (20.0 * 20 * burstiness), 0.05 / (20.0 * 20 * burstiness)) << burstiness;
  }
}

// The largest distance between the distribution of the gaps and `cdf` of a gap times the rate (Kolmogorov-Smirnov).
double Distance(const std::vector<double>& seconds, double rate, const std::function<double(double)>& cdf) {
  std::vector<double> gaps;
  for (size_t i = 1; i < seconds.size(); ++i) gaps.push_back((seconds[i] - seconds[i - 1]) * rate);
  std::sort(gaps.begin(), gaps.end());
  const auto count = static_cast<double>(gaps.size());
  double distance = 0;
  for (size_t i = 0; i < gaps.size(); ++i) {
    const double expected = cdf(gaps[i]);
    distance =
        std::max({distance, expected - static_cast<double>(i) / count, static_cast<double>(i + 1) / count - expected});
  }
  return distance;
}

TEST(Arrivals, GapsPassATestOfFit) {
  const auto poisson = [](double gap) { return 1 - std::exp(-gap); };
  const auto bursty = [](double gap) { return std::erf(std::sqrt(gap / 2)); };  // gamma of shape 1/2
  const auto steady = [](double gap) {                                          // gamma of shape 4
    const double x = 4 * gap;
    return 1 - std::exp(-x) * (1 + x + x * x / 2 + x * x * x / 6);
  };
  constexpr int kCount = 20'000;
  const double critical = 1.95 / std::sqrt(kCount);  // of which one sample in a thousand goes beyond
  EXPECT_LT(Distance(ArrivalSeconds(kCount, {20, 1, 0, 7}), 20, poisson), critical);
  EXPECT_LT(Distance(ArrivalSeconds(kCount, {20, 0.5, 0, 7}), 20, bursty), critical);
  EXPECT_LT(Distance(ArrivalSeconds(kCount, {20, 4, 0, 7}), 20, steady), critical);
  EXPECT_GT(Distance(ArrivalSeconds(kCount, {20, 1.1, 0, 7}), 20, poisson), critical);
}

TEST(Arrivals, ARampBeginsAtItsRateAndEndsAtTheOther) {
  const std::vector<double> seconds = ArrivalSeconds(10'001, {40, 100, 10, 7});
  const auto mean_gap = [&seconds](int first) { return (seconds[first + 200] - seconds[first]) / 200; };
  EXPECT_NEAR(mean_gap(0), 1 / 10.3, 0.002);
  EXPECT_NEAR(mean_gap(5000), 1 / 25.3, 0.001);
  EXPECT_NEAR(mean_gap(9800), 1 / 39.7, 0.001);
}

TEST(Arrivals, SeedDecides) {
  EXPECT_EQ(ArrivalSeconds(50, {5, 1, 0, 1}), ArrivalSeconds(50, {5, 1, 0, 1}));
  EXPECT_NE(ArrivalSeconds(50, {5, 1, 0, 1}), ArrivalSeconds(50, {5, 1, 0, 2}));
}

}  // namespace
}  // namespace nibble::loadtest
