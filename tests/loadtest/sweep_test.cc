#include "loadtest/sweep.h"

#include <algorithm>
#include <vector>

#include "gmock/gmock.h"
#include "loadtest/slo.h"
#include "tests/base/status_matchers.h"

namespace nibble::loadtest {
namespace {

// A server that holds every rate up to `capacity`.
double Highest(double first, double capacity, int* probes) {
  return FindHighestRate(first, [capacity, probes](double rate) {
    ++*probes;
    return rate <= capacity;
  });
}

TEST(Sweep, FindsTheHighestRateFromBelowAndFromAbove) {
  for (const double capacity : {0.02, 0.9, 1.0, 7.3, 1000.0}) {
    for (const double first : {0.1, 1.0, 50.0}) {
      int probes = 0;
      const double highest = Highest(first, capacity, &probes);
      EXPECT_LE(highest, capacity);
      EXPECT_GT(highest * kSweepPrecision, capacity);
      EXPECT_LE(probes, 24);
    }
  }
}

TEST(Sweep, EndsWhereNoRateIsHeldOrNoneBreaks) {
  int probes = 0;
  EXPECT_EQ(Highest(1, 0, &probes), 0);
  EXPECT_EQ(Highest(1, 1e9, &probes), kMostRate);
  EXPECT_LE(probes, 30);
}

TEST(Sweep, AServerThatChangesItsMindYieldsARateThatWasHeld) {
  std::vector<double> held;
  int calls = 0;
  const double highest = FindHighestRate(4, [&](double rate) {
    const bool holds = ++calls % 3 == 1;
    if (holds) held.push_back(rate);
    return holds;
  });
  EXPECT_NE(std::find(held.begin(), held.end(), highest), held.end());
}

TEST(Sweep, OneOfAHundredMayMiss) {
  EXPECT_EQ(MissesAllowed(99), 0);
  EXPECT_EQ(MissesAllowed(100), 1);
  EXPECT_EQ(MissesAllowed(1000), 10);
}

TEST(Slo, ReadsEveryLimit) {
  const absl::StatusOr<Slo> slo = ParseSlo("e2el:2s,ttft:200ms,tpot:1.5ms");
  ASSERT_THAT(slo, IsOk());
  EXPECT_EQ(slo->ttft_ms, 200);
  EXPECT_EQ(slo->tpot_ms, 1.5);
  EXPECT_EQ(slo->e2el_ms, 2000);
  EXPECT_EQ(ParseSlo("ttft:1s")->tpot_ms, Slo::kNoLimit);
}

TEST(Slo, RefusesTheImpossible) {
  for (const char* text : {"", "ttft", "ttft:", "ttft:0", "ttft:-5ms", "ttft:5", "itl:5ms", "ttft:5ms,ttft:6ms",
                           "ttft:5ms,", "ttft:inf"}) {
    EXPECT_THAT(ParseSlo(text), StatusIs(absl::StatusCode::kInvalidArgument, testing::_)) << text;
  }
}

}  // namespace
}  // namespace nibble::loadtest
