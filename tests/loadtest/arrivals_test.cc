#include "loadtest/arrivals.h"

#include <cmath>
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
  EXPECT_EQ(ArrivalSeconds(3, {inf, 1, 0}), (std::vector<double>{0, 0, 0}));
}

TEST(Arrivals, GapsHaveTheMomentsOfTheGammaDistribution) {
  for (const double burstiness : {0.5, 1.0, 4.0}) {
    const std::vector<double> seconds = ArrivalSeconds(100'000, {20, burstiness, 7});
    EXPECT_EQ(seconds[0], 0);
    const Moments gaps = GapMoments(seconds);
    EXPECT_NEAR(gaps.mean, 1 / 20.0, 0.001) << burstiness;
    EXPECT_NEAR(gaps.variance, 1 / (20.0 * 20 * burstiness), 0.05 / (20.0 * 20 * burstiness)) << burstiness;
  }
}

TEST(Arrivals, SeedDecides) {
  EXPECT_EQ(ArrivalSeconds(50, {5, 1, 1}), ArrivalSeconds(50, {5, 1, 1}));
  EXPECT_NE(ArrivalSeconds(50, {5, 1, 1}), ArrivalSeconds(50, {5, 1, 2}));
}

}  // namespace
}  // namespace nibble::loadtest
