// What the sixteen virtual lanes give each other, on every target as the plain definition has it.
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kvcache/simd/isa.h"
#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/kvcache/simd/exchange_test.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kvcache/simd/exchange-inl.h"

#ifndef NIBBLE_TESTS_KVCACHE_SIMD_EXCHANGE_TEST_EXCHANGES_
#define NIBBLE_TESTS_KVCACHE_SIMD_EXCHANGE_TEST_EXCHANGES_
namespace nibble::simd {

// Of one target and one distance, over sixteen floats in memory.
struct Exchange {
  int distance;
  void (*partner)(const float* x, float* out);
  void (*butterfly)(const float* x, float* out);
};
struct Exchanges {
  Exchange all[4];
};

}  // namespace nibble::simd
#endif  // NIBBLE_TESTS_KVCACHE_SIMD_EXCHANGE_TEST_EXCHANGES_

HWY_BEFORE_NAMESPACE();
namespace nibble {
namespace simd {
namespace HWY_NAMESPACE {
namespace {

template <int kDistance>
void PartnerOf(const float* x, float* out) {
  Store(Partner<kDistance>(Load(x)), out);
}
template <int kDistance>
void ButterflyOf(const float* x, float* out) {
  Store(Butterfly<kDistance>(Load(x)), out);
}

const Exchanges& ExchangesOfTarget() {
  static constexpr Exchanges kExchanges = {{{1, PartnerOf<1>, ButterflyOf<1>},
                                            {2, PartnerOf<2>, ButterflyOf<2>},
                                            {4, PartnerOf<4>, ButterflyOf<4>},
                                            {8, PartnerOf<8>, ButterflyOf<8>}}};
  return kExchanges;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace simd
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nibble::simd {
namespace {

const Exchanges& ExchangesOf(Isa isa) { return NIBBLE_FOR_ISA(isa, ExchangesOfTarget()); }

TEST(Exchange, LanesMeetTheOneThatManyAway) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> x(16), partners(16), sums(16);
  for (float& value : x) value = normal(random);
  for (const Isa isa : SupportedIsas()) {
    for (const Exchange& exchange : ExchangesOf(isa).all) {
      exchange.partner(x.data(), partners.data());
      exchange.butterfly(x.data(), sums.data());
      for (int i = 0; i < 16; ++i) {
        const float other = x[i ^ exchange.distance];
        EXPECT_EQ(partners[i], other) << Name(isa) << ", distance " << exchange.distance << ", lane " << i;
        EXPECT_EQ(sums[i], (i & exchange.distance) == 0 ? x[i] + other : other - x[i]) << Name(isa);
      }
    }
  }
}

}  // namespace
}  // namespace nibble::simd
#endif  // HWY_ONCE
