// The walk over many seeds. NIBBLE_SIM_SEEDS and NIBBLE_SIM_STEPS (per seed) make it longer:
//   NIBBLE_SIM_SEEDS=20000 NIBBLE_SIM_STEPS=500 build/release/bin/walk_test
#include <cstdlib>

#include "gtest/gtest.h"
#include "tests/sim/walk.h"

namespace nibble::sched {
namespace {

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoll(text);
}

uint64_t TraceOf(uint32_t seed, int64_t steps) {
  Walk walk(seed);
  for (int64_t i = 0; i < steps; ++i) walk.Step();
  walk.End();
  return walk.trace();
}

TEST(Sim, EverySeedKeepsEveryInvariantAndEndsEmpty) {
  const int64_t seeds = FromEnvironment("NIBBLE_SIM_SEEDS", 1000);
  const int64_t steps = FromEnvironment("NIBBLE_SIM_STEPS", 200);
  int64_t total = 0;
  for (int64_t seed = 0; seed < seeds; ++seed) {
    Walk walk(static_cast<uint32_t>(seed));
    for (int64_t i = 0; i < steps; ++i) walk.Step();
    walk.End();
    total += walk.steps();
  }
  RecordProperty("steps", static_cast<int>(total));
  EXPECT_GE(total, seeds * steps);
}

TEST(Sim, AReplayIsIdentical) {
  for (uint32_t seed = 0; seed < 20; ++seed) EXPECT_EQ(TraceOf(seed, 200), TraceOf(seed, 200)) << seed;
  EXPECT_NE(TraceOf(1, 200), TraceOf(2, 200));
}

}  // namespace
}  // namespace nibble::sched
