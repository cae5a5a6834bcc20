// What meets a page's cells: queries and weights rounded to integers, and products of int16.
//
// A cell is the kFold numbers of a lane that an instruction multiplies and adds. Where it takes bytes (kFold 4) one
// side is unsigned: keys are, offset by 128, and queries are signed; values are signed, and weights not.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_CODECS_COUPLED_OPERANDS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_CODECS_COUPLED_OPERANDS_INL_H_
#undef NIBBLE_KVCACHE_CODECS_COUPLED_OPERANDS_INL_H_
#else
#define NIBBLE_KVCACHE_CODECS_COUPLED_OPERANDS_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "kvcache/codecs/coupled_tables.h"
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

#if HWY_TARGET == HWY_AVX3_DL
inline constexpr int kFold = 4;
inline constexpr int kKeyOffset = 128;
#else
inline constexpr int kFold = 2;
inline constexpr int kKeyOffset = 0;
#endif

// Rows whose operands are made before any is multiplied.
inline constexpr int kBlockRows = 48;

// Where operands are multiplied as bytes they are kept so.
#if HWY_TARGET == HWY_AVX3_DL
using KeyOperand = int8_t;
#else
using KeyOperand = int16_t;
#endif

// lanes + a where a is not 0.
HWY_INLINE V16 AddUnlessZero(V16 a, V16 lanes) {
  const V16 sum = Add(lanes, a);
  V16 r;
  NIBBLE_PARTS r.v[i] = hn::IfThenElse(hn::Eq(a.v[i], hn::Zero(F())), lanes.v[i], sum.v[i]);
  return r;
}

// Narrows two vectors to int16, four of the one and four of the other in turn (MatrixColumn). REQUIRES: they fit.
HWY_INLINE void StoreInTurn(I16 a, I16 b, int16_t* out) {
#if HWY_TARGET == HWY_AVX3_DL
  _mm512_storeu_si512(out, _mm512_packs_epi32(a.v[0].raw, b.v[0].raw));
#elif HWY_TARGET == HWY_AVX2
  NIBBLE_PARTS _mm256_storeu_si256(reinterpret_cast<__m256i*>(out) + i, _mm256_packs_epi32(a.v[i].raw, b.v[i].raw));
#else
  int16_t in_order[32];
  StoreNarrowed(a, in_order);
  StoreNarrowed(b, in_order + 16);
  for (int i = 0; i < 32; ++i) out[MatrixColumn(i)] = in_order[i];
#endif
}

// Numbers of a row of keys' operands.
HWY_INLINE int OperandWidth(const HeadTables& keys) {
  constexpr int kUnit = kFold == 4 ? 64 : 16;
  return (keys.padded + kUnit - 1) / kUnit * kUnit;
}

#if HWY_TARGET == HWY_AVX3_DL
// Narrows 64 numbers from -128 to 127, or from 0 to 255, to bytes.
template <bool kSigned>
HWY_INLINE __m512i Narrow(const I16 (&x)[4]) {
  const __m512i a = _mm512_packs_epi32(x[0].v[0].raw, x[1].v[0].raw);
  const __m512i b = _mm512_packs_epi32(x[2].v[0].raw, x[3].v[0].raw);
  // Both steps take a quarter of each vector in turn.
  const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(in_order, kSigned ? _mm512_packs_epi16(a, b) : _mm512_packus_epi16(a, b));
}
#endif

// Stores y * inverse to the nearest integers; returns their sum where cells have an offset.
HWY_INLINE int32_t StoreKeyOperands(const float* y, int width, V16 inverse, KeyOperand* operands) {
#if HWY_TARGET == HWY_AVX3_DL
  __m512i sum = _mm512_setzero_si512();
  for (int j = 0; j < width; j += 64) {
    I16 x[4];
    NIBBLE_UNROLL for (int i = 0; i < 4; ++i) x[i] = NearestInt(Mul(Load(y + j + 16 * i), inverse));
    const __m512i bytes = Narrow<true>(x);
    sum = AddByteProducts(sum, _mm512_set1_epi8(1), bytes);
    _mm512_storeu_si512(operands + j, bytes);
  }
  return _mm512_reduce_add_epi32(sum);
#else
  for (int j = 0; j < width; j += 16) StoreNarrowed(NearestInt(Mul(Load(y + j), inverse)), operands + j);
  return 0;
#endif
}

HWY_INLINE int32_t LoadFold(const void* x) {
  int32_t fold;
  std::memcpy(&fold, x, sizeof(fold));
  return fold;
}

// dots[r][p] = the products of row r of x with the sixteen lanes of panel p, `pairs` pairs of int16, or of bytes in
// panels.
#if HWY_TARGET == HWY_AVX3_DL
template <int kRows, int kPanels>
HWY_INLINE void PairDots(const int16_t* panels, int64_t panel_stride, int pairs, const int16_t* x, int64_t x_stride,
                         I16 (&dots)[kRows][kPanels]) {
  __m512i sums[kRows][kPanels];
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    NIBBLE_UNROLL for (int p = 0; p < kPanels; ++p) sums[r][p] = _mm512_setzero_si512();
  }
  for (int k = 0; k < pairs; ++k) {
    __m512i panel[kPanels];
    NIBBLE_UNROLL for (int p = 0; p < kPanels; ++p) {
      panel[p] = _mm512_loadu_si512(panels + p * panel_stride + k * 32);
    }
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      const __m512i pair = _mm512_set1_epi32(LoadFold(x + r * x_stride + 2 * k));
      NIBBLE_UNROLL for (int p = 0; p < kPanels; ++p) sums[r][p] = AddPairProducts(sums[r][p], panel[p], pair);
    }
  }
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    NIBBLE_UNROLL for (int p = 0; p < kPanels; ++p) dots[r][p].v[0].raw = sums[r][p];
  }
}
#elif HWY_TARGET == HWY_AVX2
HWY_INLINE __m256i LoadPairs(const int16_t* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }
HWY_INLINE __m256i LoadPairs(const int8_t* at) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
}

template <int kRows, int kPanels, typename Number>
HWY_INLINE void PairDots(const Number* panels, int64_t panel_stride, int pairs, const int16_t* x, int64_t x_stride,
                         I16 (&dots)[kRows][kPanels]) {
  __m256i sums[kRows][2 * kPanels];
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    NIBBLE_UNROLL for (int p = 0; p < 2 * kPanels; ++p) sums[r][p] = _mm256_setzero_si256();
  }
  for (int k = 0; k < pairs; ++k) {
    NIBBLE_UNROLL for (int p = 0; p < 2 * kPanels; ++p) {
      const __m256i panel = LoadPairs(panels + p / 2 * panel_stride + k * 32 + p % 2 * 16);
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const __m256i pair = _mm256_set1_epi32(LoadFold(x + r * x_stride + 2 * k));
        sums[r][p] = AddPairProducts(sums[r][p], panel, pair);
      }
    }
  }
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    NIBBLE_UNROLL for (int p = 0; p < 2 * kPanels; ++p) dots[r][p / 2].v[p % 2].raw = sums[r][p];
  }
}
#else
template <int kRows, int kPanels, typename Number>
HWY_INLINE void PairDots(const Number* panels, int64_t panel_stride, int pairs, const int16_t* x, int64_t x_stride,
                         I16 (&dots)[kRows][kPanels]) {
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPanels; ++p) {
      int32_t sums[16] = {};
      for (int i = 0; i < 2 * pairs; ++i) {
        for (int lane = 0; lane < 16; ++lane) {
          sums[lane] += panels[p * panel_stride + i / 2 * 32 + 2 * lane + i % 2] * x[r * x_stride + i];
        }
      }
      dots[r][p] = LoadInt(sums);
    }
  }
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_COUPLED_OPERANDS_INL_H_
