// Steps of encoding that the affine codecs share: sixteen groups at a time, one in each lane.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_CODECS_LEVELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_CODECS_LEVELS_INL_H_
#undef NIBBLE_KVCACHE_CODECS_LEVELS_INL_H_
#else
#define NIBBLE_KVCACHE_CODECS_LEVELS_INL_H_
#endif

#include <cstdint>
#include <limits>

#include "kvcache/codecs/affine_codec.h"
#include "kvcache/codecs/operands-inl.h"
#include "kvcache/simd/vec16-inl.h"

#if HWY_TARGET == HWY_AVX3_DL
NIBBLE_BEFORE_VNNI_NAMESPACE();
#else
HWY_BEFORE_NAMESPACE();
#endif
namespace nibble {
namespace kv {
namespace HWY_NAMESPACE {

using namespace nibble::simd::HWY_NAMESPACE;  // NOLINT: the vector vocabulary of this target

inline constexpr float kLargestHalf = 65504.0f;

// Infinity as the largest half of its sign, NaN and -0 as 0 (the least of two zeros would be either's).
HWY_INLINE V16 LoadFinite(const uint16_t* p) {
  const V16 a = LoadHalf(p);
  V16 r;
  NIBBLE_PARTS {
    const auto number = hn::Add(hn::IfThenElseZero(hn::Eq(a.v[i], a.v[i]), a.v[i]), hn::Zero(F()));
    r.v[i] = hn::Min(hn::Max(number, hn::Set(F(), -kLargestHalf)), hn::Set(F(), kLargestHalf));
  }
  return r;
}

// x[i][j] = in[j][i] of a square of 32, rows of `in` `stride` apart.
HWY_INLINE void LoadTransposed(const uint16_t* in, int64_t stride, float* x) {
  for (int j = 0; j < 32; ++j) {
    HWY_ALIGN float row[32];
    Store(LoadFinite(in + j * stride), row);
    Store(LoadFinite(in + j * stride + 16), row + 16);
    for (int i = 0; i < 32; ++i) x[i * 32 + j] = row[i];
  }
}

// To a finite half. REQUIRES: a is a number.
HWY_INLINE V16 RoundToHalf(V16 a) {
  HWY_ALIGN uint16_t half[16];
  StoreHalf(Max(Min(a, Set(kLargestHalf)), Set(-kLargestHalf)), half);
  return LoadHalf(half);
}

// The least and the largest of `start` and the 32 numbers of each group, those of a group 32 floats apart.
struct Extent {
  V16 least, largest;
};
HWY_INLINE Extent ExtentOf(const float* x, V16 start) {
  Extent extent = {start, start};
  for (int i = 0; i < 32; ++i) {
    const V16 y = Load(x + 32 * i);
    extent = {Min(extent.least, y), Max(extent.largest, y)};
  }
  return extent;
}

// yes where a < b, otherwise no.
HWY_INLINE V16 WhereLess(V16 a, V16 b, V16 yes, V16 no) {
  V16 r;
  NIBBLE_PARTS r.v[i] = hn::IfThenElse(hn::Lt(a.v[i], b.v[i]), yes.v[i], no.v[i]);
  return r;
}

// nearest((x - zero) / scale), ties to even, within kLeast .. kMost; 0 where scale is 0.
template <int kLeast, int kMost>
HWY_INLINE I16 NearestLevels(V16 x, V16 zero, V16 scale) {
  V16 divisor;
  NIBBLE_PARTS {
    const auto positive = hn::Gt(scale.v[i], hn::Zero(F()));
    divisor.v[i] = hn::IfThenElse(positive, scale.v[i], hn::Set(F(), std::numeric_limits<float>::infinity()));
  }
  return NearestInt(Min(Max(Div(Sub(x, zero), divisor), Set(kLeast)), Set(kMost)));
}

// Stores them as 16 bytes of two's complement.
template <int kLeast, int kMost>
HWY_INLINE void StoreLevels(V16 x, V16 zero, V16 scale, uint8_t* levels) {
  const I16 level = NearestLevels<kLeast, kMost>(x, zero, scale);
  if constexpr (kLeast < 0) {
    StoreNarrowed(level, reinterpret_cast<int8_t*>(levels));
  } else {
    StoreNarrowed(level, levels);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_LEVELS_INL_H_
