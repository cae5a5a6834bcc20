// Bits and codes against the definition of water-filling, a bisection, and every allocation there is.
#include "engine/quant/calibration/rate_allocation.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>
#include <set>

#include "gmock/gmock.h"

namespace nibble::engine {
namespace {

using Doubles = std::vector<double>;
using testing::Each;
using testing::SizeIs;

double Sum(const Doubles& numbers) { return std::accumulate(numbers.begin(), numbers.end(), 0.0); }

// Variances of any size within 2^-`range` to 2^`range`, some of them zero.
Doubles RandomVariances(int count, double range, std::mt19937& random) {
  std::uniform_real_distribution<double> exponent(-range, range);
  Doubles variances;
  for (int i = 0; i < count; ++i) variances.push_back(random() % 8 == 0 ? 0.0 : std::exp2(exponent(random)));
  return variances;
}

double BitsAt(double log_level, double variance) {
  return variance > 0 ? std::max(0.0, 0.5 * (std::log2(variance) - log_level)) : 0.0;
}

// The level at which the bits add up, by bisection.
Rates Bisect(const Doubles& variances, double total_bits) {
  double low = -1e5, high = 1e5;
  for (int i = 0; i < 200; ++i) {
    const double middle = (low + high) / 2;
    double bits = 0.0;
    for (const double variance : variances) bits += BitsAt(middle, variance);
    (bits > total_bits ? low : high) = middle;
  }
  Rates rates;
  for (const double variance : variances) {
    rates.bits.push_back(BitsAt(high, variance));
    rates.distortion += variance * std::exp2(-2.0 * rates.bits.back());
  }
  return rates;
}

TEST(ReverseWaterFill, EqualsABisection) {
  std::mt19937 random(1);
  for (const double range : {1.0, 10.0, 500.0}) {
    for (const double total : {0.25, 8.0, 24.0, 512.0}) {
      for (int count = 1; count <= 40; count += 3) {
        Doubles variances = RandomVariances(count, range, random);
        variances[0] = 1.0;
        const Rates rates = ReverseWaterFill(variances, total), twin = Bisect(variances, total);
        ASSERT_THAT(rates.bits, SizeIs(variances.size()));
        EXPECT_NEAR(Sum(rates.bits), total, 1e-9 * total) << count << " of range " << range;
        EXPECT_NEAR(rates.distortion, twin.distortion, 1e-9 * twin.distortion);
        for (size_t i = 0; i < variances.size(); ++i) EXPECT_NEAR(rates.bits[i], twin.bits[i], 1e-8);
      }
    }
  }
}

TEST(ReverseWaterFill, GivesTheExampleOfTheBook) {
  // Level 1: variances 16 and 4 get 2 bits and 1 bit, the others are drowned.
  const Rates rates = ReverseWaterFill({0.5, 16.0, 1.0, 4.0}, 3.0);
  EXPECT_THAT(rates.bits, testing::ElementsAre(0.0, testing::DoubleEq(2.0), testing::DoubleEq(0.0), 1.0));
  EXPECT_DOUBLE_EQ(rates.distortion, 1.0 + 1.0 + 1.0 + 0.5);
}

TEST(ReverseWaterFill, GivesNothingWhereThereIsNothing) {
  EXPECT_THAT(ReverseWaterFill({0.0, 0.0}, 16.0).bits, Each(0.0));
  EXPECT_EQ(ReverseWaterFill({0.0, 0.0}, 16.0).distortion, 0.0);
  const Rates none = ReverseWaterFill({3.0, 1.0, 3.0}, 0.0);
  EXPECT_THAT(none.bits, Each(0.0));
  EXPECT_DOUBLE_EQ(none.distortion, 7.0);
  const Rates alone = ReverseWaterFill({0.0, 1e-300, 0.0}, 8.0);
  EXPECT_THAT(alone.bits, testing::ElementsAre(0.0, testing::DoubleNear(8.0, 1e-9), 0.0));
}

double DistortionOf(const std::vector<Doubles>& heads, const std::vector<int>& groups) {
  double sum = 0.0;
  for (size_t h = 0; h < heads.size(); ++h) sum += ReverseWaterFill(heads[h], 8.0 * groups[h]).distortion;
  return sum;
}

// The least distortion of all allocations.
double LeastDistortion(const std::vector<Doubles>& heads, int total) {
  double least = HUGE_VAL;
  std::vector<int> groups;
  const std::function<void(int)> rest = [&](int left) {
    if (groups.size() == heads.size()) {
      if (left == 0) least = std::min(least, DistortionOf(heads, groups));
      return;
    }
    for (int n = 1; n <= std::min<int>(left, static_cast<int>(heads[groups.size()].size())); ++n) {
      groups.push_back(n);
      rest(left - n);
      groups.pop_back();
    }
  };
  rest(total);
  return least;
}

TEST(AllocateGroups, IsTheBestOfAllAllocations) {
  std::mt19937 random(2);
  for (const double range : {1.0, 6.0, 40.0}) {
    for (int total = 4; total <= 15; ++total) {
      // A code moves a head of many coefficients little.
      const std::vector<Doubles> heads = {RandomVariances(24, range, random), RandomVariances(2, range, random),
                                          RandomVariances(9, range, random), RandomVariances(5, range, random)};
      const std::vector<int> groups = AllocateGroups(heads, total);
      EXPECT_EQ(std::accumulate(groups.begin(), groups.end(), 0), total);
      for (size_t h = 0; h < heads.size(); ++h) {
        EXPECT_GE(groups[h], 1);
        EXPECT_LE(groups[h], static_cast<int>(heads[h].size()));
      }
      const double least = LeastDistortion(heads, total);
      EXPECT_LE(DistortionOf(heads, groups), least * (1 + 1e-9)) << total << " groups, range " << range;
    }
  }
}

TEST(AllocateGroups, StopsWhereEveryCoefficientHasACode) {
  EXPECT_THAT(AllocateGroups({{1.0, 2.0}, {3.0}, {0.0, 0.0, 0.0}}, 100), testing::ElementsAre(2, 1, 3));
}

struct Grouping {
  explicit Grouping(const Doubles& bits, int groups) : members(GroupCoefficients(bits, groups)) {
    for (const std::vector<int>& group : members) {
      loads.push_back(0.0);
      for (const int c : group) {
        EXPECT_TRUE(seen.insert(c).second) << c << " is in two groups";
        loads.back() += bits[static_cast<size_t>(c)];
      }
    }
    EXPECT_THAT(members, SizeIs(groups));
    EXPECT_THAT(members, Each(SizeIs(testing::AllOf(testing::Ge(1u), testing::Le(16u)))));
  }

  std::vector<std::vector<int>> members;
  Doubles loads;
  std::set<int> seen;
};

TEST(GroupCoefficients, EveryRateOnceInGroupsOfNearlyEqualLoads) {
  std::mt19937 random(3);
  for (int groups = 1; groups <= 24; ++groups) {
    for (const double range : {0.5, 6.0}) {
      const Doubles variances = RandomVariances(32, range, random);
      const Doubles bits = ReverseWaterFill(variances, 8.0 * groups).bits;
      const Grouping got(bits, groups);
      double least = HUGE_VAL;  // of the groups that could have taken more
      for (size_t g = 0; g < got.members.size(); ++g) {
        if (got.members[g].size() < 16) least = std::min(least, got.loads[g]);
      }
      for (size_t c = 0; c < bits.size(); ++c) {
        const bool can_be_left = bits[c] <= kLeastBits || got.seen.size() == 16u * static_cast<size_t>(groups);
        EXPECT_TRUE(can_be_left || got.seen.count(static_cast<int>(c)) == 1) << c;
      }
      for (size_t g = 0; g < got.members.size(); ++g) {
        if (got.members[g].size() == 1) continue;
        const double last = bits[static_cast<size_t>(got.members[g].back())];
        EXPECT_LE(got.loads[g] - last, least + 1e-9)
            << "group " << g << " of " << groups << " had enough without its last";
      }
    }
  }
}

TEST(GroupCoefficients, LeavesOutTheLeastWhereGroupsAreFull) {
  Doubles bits(48, 0.75);
  for (size_t c = 0; c < 16; ++c) bits[3 * c] = 0.5;
  const Grouping got(bits, 2);
  EXPECT_THAT(got.seen, SizeIs(32));
  for (const int c : got.seen) EXPECT_NE(c % 3, 0) << c;
}

TEST(GroupCoefficients, LeavesOutWhatHardlyHasARate) {
  const Grouping got({3.0, kLeastBits, 0.5, 0.1, 2.0}, 2);
  EXPECT_THAT(got.seen, testing::UnorderedElementsAre(0, 2, 4));
}

TEST(GroupCoefficients, HoldsOneInEveryGroupWhereRatesAreFew) {
  EXPECT_THAT(Grouping(Doubles(8, 0.0), 5).seen, SizeIs(5));
  EXPECT_THAT(Grouping({0.0, 24.0, 0.0, 0.0}, 3).seen, testing::AllOf(SizeIs(3), testing::Contains(1)));
  EXPECT_THAT(Grouping(Doubles(4, 0.0), 4).seen, SizeIs(4));
}

}  // namespace
}  // namespace nibble::engine
