// What the sixteen virtual lanes of vec16-inl.h give each other. Lanes are counted by exclusive or, so that registers
// of every width exchange the same ones.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_SIMD_EXCHANGE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_SIMD_EXCHANGE_INL_H_
#undef NIBBLE_KVCACHE_SIMD_EXCHANGE_INL_H_
#else
#define NIBBLE_KVCACHE_SIMD_EXCHANGE_INL_H_
#endif

#include <array>

#include "kvcache/simd/vec16-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nibble {
namespace simd {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
// Lane i of the result is lane i ^ kDistance of one register, which has more lanes than that.
template <int kDistance>
HWY_INLINE hn::Vec<F> PartnerInRegister(hn::Vec<F> a) {
  static_assert(kDistance == 1 || kDistance == 2 || kDistance == 4 || kDistance == 8);
  if constexpr (kDistance == 8) {
    return hn::ConcatLowerUpper(F(), a, a);
  } else if constexpr (kDistance == 4) {
    return hn::SwapAdjacentBlocks(a);
  } else if constexpr (kDistance == 2) {
    return hn::Shuffle1032(a);
  } else {
    return hn::Shuffle2301(a);
  }
}
#endif

// Lane i of the result is lane i ^ kDistance; kDistance is 1, 2, 4 or 8.
template <int kDistance>
HWY_INLINE V16 Partner(V16 a) {
  V16 r;
#if HWY_TARGET == HWY_SCALAR
  NIBBLE_PARTS r.v[i] = a.v[i ^ kDistance];
#else
  NIBBLE_PARTS {
    if constexpr (kDistance >= kLanes) {
      r.v[i] = a.v[i ^ (kDistance / kLanes)];
    } else {
      r.v[i] = PartnerInRegister<kDistance>(a.v[i]);
    }
  }
#endif
  return r;
}

// a + b in the first lane of a pair kDistance apart and a - b in the second.
template <int kDistance>
HWY_INLINE V16 Butterfly(V16 a) {
  HWY_ALIGN static constexpr auto kSigns = [] {
    std::array<float, 16> signs{};
    for (int i = 0; i < 16; ++i) signs[i] = (i & kDistance) == 0 ? 1.0f : -1.0f;
    return signs;
  }();
  return Fma(a, Load(kSigns.data()), Partner<kDistance>(a));  // the product is exact
}

}  // namespace HWY_NAMESPACE
}  // namespace simd
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_SIMD_EXCHANGE_INL_H_
