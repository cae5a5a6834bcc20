#include "kvcache/simd/portable_math.h"

#include <cmath>
#include <random>

#include "gtest/gtest.h"

namespace nibble::simd {
namespace {

TEST(PortableMath, ExpIsTheExponential) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> draw(-60.0, 60.0);
  for (int i = 0; i < 100000; ++i) {
    const double x = draw(random);
    EXPECT_NEAR(PortableExp(x) / std::exp(x), 1.0, 1e-14) << x;
  }
  EXPECT_EQ(PortableExp(0.0), 1.0);
}

TEST(PortableMath, SineAndCosineAreThose) {
  std::mt19937_64 random(2);
  for (double range : {1.0, 100.0, 1e5, 1048576.0}) {
    std::uniform_real_distribution<double> draw(-range, range);
    for (int i = 0; i < 50000; ++i) {
      const double angle = draw(random);
      const SineCosine got = PortableSineCosine(angle);
      EXPECT_NEAR(got.sine, std::sin(angle), 1e-13) << angle;
      EXPECT_NEAR(got.cosine, std::cos(angle), 1e-13) << angle;
    }
  }
  EXPECT_EQ(PortableSineCosine(0.0).sine, 0.0);
  EXPECT_EQ(PortableSineCosine(0.0).cosine, 1.0);
}

}  // namespace
}  // namespace nibble::simd
