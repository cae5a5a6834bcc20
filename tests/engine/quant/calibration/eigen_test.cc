#include "engine/quant/calibration/eigen.h"

#include "gmock/gmock.h"

namespace nibble::engine {
namespace {

// Sums are cut into blocks by these sizes; were they the processor's own, calibrations would differ between machines.
TEST(Eigen, CutsSumsAlikeOnEveryMachine) {
  EXPECT_EQ(Eigen::l1CacheSize(), 32 << 10);
  EXPECT_EQ(Eigen::l2CacheSize(), 256 << 10);
  EXPECT_EQ(Eigen::l3CacheSize(), 2 << 20);
}

}  // namespace
}  // namespace nibble::engine
