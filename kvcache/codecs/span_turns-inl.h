// Turning vectors of pairs back by a span's angle.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_CODECS_SPAN_TURNS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_CODECS_SPAN_TURNS_INL_H_
#undef NIBBLE_KVCACHE_CODECS_SPAN_TURNS_INL_H_
#else
#define NIBBLE_KVCACHE_CODECS_SPAN_TURNS_INL_H_
#endif

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

// -a * b + c, rounded once.
HWY_INLINE V16 MinusFma(V16 a, V16 b, V16 c) {
  V16 r;
#if HWY_TARGET == HWY_SCALAR
  NIBBLE_PARTS r.v[i] = hn::Vec<F>(std::fma(-a.v[i].raw, b.v[i].raw, c.v[i].raw));
#else
  NIBBLE_PARTS r.v[i] = hn::NegMulAdd(a.v[i], b.v[i], c.v[i]);
#endif
  return r;
}

struct TurnedPair {
  V16 a, b;
};
HWY_INLINE TurnedPair TurnBack(V16 a, V16 b, V16 cosine, V16 sine) {
  return {Fma(b, sine, Mul(a, cosine)), MinusFma(a, sine, Mul(b, cosine))};
}

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_SPAN_TURNS_INL_H_
