// Operands: the integers that a row multiplies packed codes by (its query against keys, its weights against values),
// rounded from floats with one scale. Narrow ones have 8 bits, wide ones 16.
//
//   largest = the largest magnitude;  x[i] = nearest(v[i] * (limit / largest)), ties to even;  scale = largest * (1 /
//   limit), where 1 / limit is a float.  Below 1e-30 everything counts as 0 and scale is -0, so that a product with it
//   added to any number leaves that number's bits alone. Infinity or NaN among v: x is 0 and scale NaN.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_CODECS_OPERANDS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_CODECS_OPERANDS_INL_H_
#undef NIBBLE_KVCACHE_CODECS_OPERANDS_INL_H_
#else
#define NIBBLE_KVCACHE_CODECS_OPERANDS_INL_H_
#endif

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kvcache/simd/bytes-inl.h"
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

// kSigned: queries, of either sign. Otherwise weights, never negative.
// Wide ones split into two bytes, and the upper one of a query must be at most 127; weights must fit int16.
template <bool kSigned, bool kWide>
inline constexpr int kOperandLimit = kWide ? (kSigned ? 127 * 256 : 32767) : (kSigned ? 127 : 255);

// Where the operands of a block of rows lie. Wide ones are two planes of bytes where the target's dot product takes
// bytes, otherwise int16.
struct Operands {
  const uint8_t* data;
  int64_t row_bytes;
  int64_t plane_bytes;

  const uint8_t* row(int r) const { return data + r * row_bytes; }
};

struct OperandScale {
  float inverse, scale;
};
template <bool kSigned, bool kWide>
HWY_INLINE OperandScale ScaleOfLargest(int32_t bits) {
  constexpr float kLimit = kOperandLimit<kSigned, kWide>;
  const float largest = std::bit_cast<float>(bits);
  if (HWY_UNLIKELY(bits >= 0x7F800000)) return {0.0f, std::numeric_limits<float>::quiet_NaN()};
  if (bits < std::bit_cast<int32_t>(1e-30f)) return {0.0f, -0.0f};
  return {kLimit / largest, largest * (1.0f / kLimit)};
}

#if HWY_TARGET == HWY_AVX3_DL
// sum and the products of two pairs of int16, of each lane. (As an instruction: bytes-inl.h says why.)
HWY_INLINE __m512i AddPairProducts(__m512i sum, __m512i a, __m512i b) {
  asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
}
#elif HWY_TARGET == HWY_AVX2
HWY_INLINE __m256i AddPairProducts(__m256i sum, __m256i a, __m256i b) {
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
  asm("" : "+x"(sum));
  return sum;
}
#endif

template <typename Small>
HWY_INLINE void StoreNarrowed(I16 x, Small* out) {
  const hn::Rebind<Small, I> small;
  NIBBLE_PARTS hn::StoreU(hn::DemoteTo(small, x.v[i]), small, out + i * kLanes);
}

// Stores 16 operands, the `first`th and on, of a row.
template <bool kSigned, bool kWide>
HWY_INLINE void StoreOperands(I16 x, int first, uint8_t* row, [[maybe_unused]] int64_t plane_bytes) {
#if HWY_TARGET == HWY_AVX3_DL
  const auto store = [](__m512i bytes, uint8_t* out)
                         HWY_ATTR { _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(bytes)); };
  const __m512i value = x.v[0].raw;
  store(value, row + first + (kWide ? plane_bytes : 0));
  // The lower byte counts as signed beside a query's upper byte, as unsigned beside a weight's.
  if constexpr (kWide) {
    const __m512i upper = kSigned ? _mm512_add_epi32(value, _mm512_set1_epi32(128)) : value;
    store(_mm512_srai_epi32(upper, 8), row + first);
  }
#else
  if constexpr (kWide) {
    StoreNarrowed(x, reinterpret_cast<int16_t*>(row) + first);
  } else if constexpr (kSigned) {
    StoreNarrowed(x, reinterpret_cast<int8_t*>(row) + first);
  } else {
    StoreNarrowed(x, row + first);
  }
#endif
}

// Rounds 32 weights to operands and stores them; returns their scale.
template <bool kWide>
HWY_INLINE float QuantizeWeights(V16 a, V16 b, uint8_t* row, int64_t plane_bytes) {
  const int32_t bits = LargestLane(MaxInt(MagnitudeBits(a), MagnitudeBits(b)));
  const OperandScale s = ScaleOfLargest<false, kWide>(bits);
  if (HWY_UNLIKELY(s.scale != s.scale)) a = b = Zero();
  const V16 inverse = Set(s.inverse);
  StoreOperands<false, kWide>(NearestInt(Mul(a, inverse)), 0, row, plane_bytes);
  StoreOperands<false, kWide>(NearestInt(Mul(b, inverse)), 16, row, plane_bytes);
  return s.scale;
}

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_OPERANDS_INL_H_
