// Sixteen virtual float lanes on every target: one AVX-512 register, two AVX2 registers, or sixteen scalars. Each
// operation is elementwise and rounds once, as IEEE 754 says, so a kernel written in it gives the same bits on every
// target (law 1). Nothing here reduces across lanes but SumLanes and MaxLanes16, which use one fixed tree.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_SIMD_VEC16_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_SIMD_VEC16_INL_H_
#undef NIBBLE_KVCACHE_SIMD_VEC16_INL_H_
#else
#define NIBBLE_KVCACHE_SIMD_VEC16_INL_H_
#endif

#include <cmath>
#include <cstdint>

#include "hwy/highway.h"
#include "kvcache/simd/half.h"

// The scalar target would only take long to compile.
#undef NIBBLE_UNROLL
#if HWY_TARGET == HWY_SCALAR
#define NIBBLE_UNROLL
#else
#define NIBBLE_UNROLL _Pragma("GCC unroll 16")
#endif

HWY_BEFORE_NAMESPACE();
namespace nibble {
namespace simd {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

inline constexpr int kLanes = HWY_LANES(float) < 16 ? HWY_LANES(float) : 16;
inline constexpr int kParts = 16 / kLanes;
using F = hn::CappedTag<float, 16>;
using I = hn::CappedTag<int32_t, 16>;

struct V16 {
  hn::Vec<F> v[kParts];
};
struct I16 {
  hn::Vec<I> v[kParts];
};

#define NIBBLE_PARTS NIBBLE_UNROLL for (int i = 0; i < kParts; ++i)

HWY_INLINE V16 Load(const float* p) {
  V16 r;
  NIBBLE_PARTS r.v[i] = hn::LoadU(F(), p + i * kLanes);
  return r;
}
HWY_INLINE void Store(V16 a, float* p) { NIBBLE_PARTS hn::StoreU(a.v[i], F(), p + i * kLanes); }
HWY_INLINE V16 Set(float x) {
  V16 r;
  NIBBLE_PARTS r.v[i] = hn::Set(F(), x);
  return r;
}
HWY_INLINE V16 Zero() { return Set(0.0f); }
HWY_INLINE I16 LoadInt(const int32_t* p) {
  I16 r;
  NIBBLE_PARTS r.v[i] = hn::LoadU(I(), p + i * kLanes);
  return r;
}

#define NIBBLE_BINARY(NAME, OP)               \
  HWY_INLINE V16 NAME(V16 a, V16 b) {         \
    V16 r;                                    \
    NIBBLE_PARTS r.v[i] = OP(a.v[i], b.v[i]); \
    return r;                                 \
  }
NIBBLE_BINARY(Add, hn::Add)
NIBBLE_BINARY(Sub, hn::Sub)
NIBBLE_BINARY(Mul, hn::Mul)
NIBBLE_BINARY(Div, hn::Div)
NIBBLE_BINARY(Max, hn::Max)
NIBBLE_BINARY(Min, hn::Min)
#undef NIBBLE_BINARY

// a * b + c, rounded once. Highway's scalar MulAdd rounds twice, so that target calls std::fma.
HWY_INLINE V16 Fma(V16 a, V16 b, V16 c) {
  V16 r;
#if HWY_TARGET == HWY_SCALAR
  NIBBLE_PARTS r.v[i] = hn::Vec<F>(std::fma(a.v[i].raw, b.v[i].raw, c.v[i].raw));
#else
  NIBBLE_PARTS r.v[i] = hn::MulAdd(a.v[i], b.v[i], c.v[i]);
#endif
  return r;
}

HWY_INLINE I16 SetInt(int32_t x) {
  I16 r;
  NIBBLE_PARTS r.v[i] = hn::Set(I(), x);
  return r;
}
HWY_INLINE I16 MaxInt(I16 a, I16 b) {
  I16 r;
  NIBBLE_PARTS r.v[i] = hn::Max(a.v[i], b.v[i]);
  return r;
}
HWY_INLINE I16 AddInt(I16 a, I16 b) {
  I16 r;
  NIBBLE_PARTS r.v[i] = hn::Add(a.v[i], b.v[i]);
  return r;
}
// The magnitude as the bits of a float: integers order as the magnitudes do, and NaN above infinity.
HWY_INLINE I16 MagnitudeBits(V16 a) {
  I16 r;
  NIBBLE_PARTS r.v[i] = hn::And(hn::BitCast(I(), a.v[i]), hn::Set(I(), 0x7FFFFFFF));
  return r;
}
HWY_INLINE int32_t LargestLane(I16 a) {
  auto largest = a.v[0];
  for (int i = 1; i < kParts; ++i) largest = hn::Max(largest, a.v[i]);
  return hn::GetLane(hn::MaxOfLanes(I(), largest));
}
HWY_INLINE int32_t SumLanesInt(I16 a) {
  auto sum = a.v[0];
  for (int i = 1; i < kParts; ++i) sum = hn::Add(sum, a.v[i]);
  return hn::GetLane(hn::SumOfLanes(I(), sum));
}

HWY_INLINE V16 ToFloat(I16 a) {
  V16 r;
  NIBBLE_PARTS r.v[i] = hn::ConvertTo(F(), a.v[i]);
  return r;
}
// To the nearest integer, ties to even. REQUIRES: |x| < 2^31.
HWY_INLINE I16 NearestInt(V16 a) {
  I16 r;
#if HWY_TARGET == HWY_SCALAR
  NIBBLE_PARTS r.v[i] = hn::Vec<I>(static_cast<int32_t>(std::nearbyintf(a.v[i].raw)));
#elif HWY_TARGET == HWY_AVX3_DL  // Highway's own saturates, which takes five instructions.
  NIBBLE_PARTS r.v[i].raw = _mm512_cvtps_epi32(a.v[i].raw);
#elif HWY_TARGET == HWY_AVX2
  NIBBLE_PARTS r.v[i].raw = _mm256_cvtps_epi32(a.v[i].raw);
#else
  NIBBLE_PARTS r.v[i] = hn::NearestInt(a.v[i]);
#endif
  return r;
}

HWY_INLINE V16 LoadHalf(const uint16_t* p) {
  V16 r;
#if HWY_TARGET == HWY_SCALAR
  NIBBLE_PARTS r.v[i] = hn::Vec<F>(HalfToFloat(p[i]));
#else
  const hn::Rebind<hwy::float16_t, F> h;
  NIBBLE_PARTS r.v[i] = hn::PromoteTo(F(), hn::LoadU(h, reinterpret_cast<const hwy::float16_t*>(p) + i * kLanes));
#endif
  return r;
}
HWY_INLINE void StoreHalf(V16 a, uint16_t* p) {
#if HWY_TARGET == HWY_SCALAR
  NIBBLE_PARTS p[i] = FloatToHalf(a.v[i].raw);
#else
  const hn::Rebind<hwy::float16_t, F> h;
  NIBBLE_PARTS hn::StoreU(hn::DemoteTo(h, a.v[i]), h, reinterpret_cast<hwy::float16_t*>(p) + i * kLanes);
#endif
}

// One fixed tree: lane i joins lane i + 8, then + 4, + 2, + 1.
HWY_INLINE float SumLanes(V16 a) {
#if HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_AVX2
#if HWY_TARGET == HWY_AVX3_DL
  const __m256 low = _mm512_castps512_ps256(a.v[0].raw), high = _mm512_extractf32x8_ps(a.v[0].raw, 1);
#else
  const __m256 low = a.v[0].raw, high = a.v[1].raw;
#endif
  const __m256 eight = _mm256_add_ps(low, high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
  HWY_ALIGN float t[16];
  Store(a, t);
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) t[i] += t[i + width];
  }
  return t[0];
#endif
}
HWY_INLINE float MaxLanes16(V16 a) {
#if HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_AVX2
#if HWY_TARGET == HWY_AVX3_DL
  const __m256 low = _mm512_castps512_ps256(a.v[0].raw), high = _mm512_extractf32x8_ps(a.v[0].raw, 1);
#else
  const __m256 low = a.v[0].raw, high = a.v[1].raw;
#endif
  const __m256 eight = _mm256_max_ps(low, high);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
#else
  HWY_ALIGN float t[16];
  Store(a, t);
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) t[i] = t[i] > t[i + width] ? t[i] : t[i + width];
  }
  return t[0];
#endif
}

// e^(x - n * ln2), where that is at most ln2/2 in size: Cody-Waite reduction, then the Taylor coefficients to degree 7.
HWY_INLINE V16 ExpOfReduced(V16 x, V16 n) {
  V16 r = Fma(n, Set(-0.693359375f), x);
  r = Fma(n, Set(2.12194440e-4f), r);
  V16 p = Set(1.0f / 5040);
  p = Fma(p, r, Set(1.0f / 720));
  p = Fma(p, r, Set(1.0f / 120));
  p = Fma(p, r, Set(1.0f / 24));
  p = Fma(p, r, Set(1.0f / 6));
  p = Fma(p, r, Set(0.5f));
  p = Fma(p, r, Set(1.0f));
  return Fma(p, r, Set(1.0f));
}

// e^x to about 1 ulp. Below -87 (where the result leaves the normal range): exactly 0. Above 88.3: e^88.3. NaN stays
// NaN.
HWY_INLINE V16 Exp(V16 x) {
#if HWY_TARGET == HWY_AVX3_DL
  // n stays a float, for the instruction that multiplies by 2^n.
  const __m512 clamped = _mm512_min_ps(_mm512_set1_ps(88.3f), x.v[0].raw);  // in this order NaN stays
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(clamped, _mm512_set1_ps(1.44269504f)), _MM_FROUND_NO_EXC);
  const V16 p = ExpOfReduced({hn::Vec<F>{clamped}}, {hn::Vec<F>{n}});
  const __mmask16 kept = _mm512_cmp_ps_mask(x.v[0].raw, _mm512_set1_ps(-87.0f), _CMP_NLT_UQ);
  return {hn::Vec<F>{_mm512_maskz_scalef_ps(kept, p.v[0].raw, n)}};
#else
  const V16 clamped = Min(Max(x, Set(-87.0f)), Set(88.3f));
  const I16 n = NearestInt(Mul(clamped, Set(1.44269504f)));
  const V16 p = ExpOfReduced(clamped, ToFloat(n));
  V16 result;
  NIBBLE_PARTS {
    const auto two_n = hn::BitCast(F(), hn::ShiftLeft<23>(hn::Add(n.v[i], hn::Set(I(), 127))));
    const auto exp = hn::Mul(p.v[i], two_n);
    const auto kept = hn::IfThenElse(hn::Lt(x.v[i], hn::Set(F(), -87.0f)), hn::Zero(F()), exp);
    result.v[i] = hn::IfThenElse(hn::Eq(x.v[i], x.v[i]), kept, x.v[i]);
  }
  return result;
#endif
}

// 1 - 2 / (e^2x + 1).
HWY_INLINE V16 Tanh(V16 x) {
  const V16 e = Exp(Add(x, x));
  return Sub(Set(1.0f), Div(Set(2.0f), Add(e, Set(1.0f))));
}

}  // namespace HWY_NAMESPACE
}  // namespace simd
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_SIMD_VEC16_INL_H_
