// A page's codes fetched from their codebooks into cells, the integers that dot products take, and those dot products.
//
// Cells of keys:   [2 halves of 16 tokens][coefficients / kFold][16 tokens][kFold coefficients]
// Cells of values: [coefficients / 16][32 / kFold][16 coefficients][kFold tokens]
// so that the kFold numbers of a lane are what an instruction multiplies and adds. Where bytes are multiplied (kFold 4)
// one side must be unsigned: keys are offset by 128.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_CODECS_COUPLED_CELLS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_CODECS_COUPLED_CELLS_INL_H_
#undef NIBBLE_KVCACHE_CODECS_COUPLED_CELLS_INL_H_
#else
#define NIBBLE_KVCACHE_CODECS_COUPLED_CELLS_INL_H_
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
using KeyCell = uint8_t;
using ValueCell = int8_t;
inline constexpr int kKeyOffset = 128;
#else
inline constexpr int kFold = 2;
using KeyCell = int16_t;
using ValueCell = int16_t;
inline constexpr int kKeyOffset = 0;
#endif

// Numbers of keys' cells.
HWY_INLINE int KeyFolds(const HeadTables& tables) { return (tables.coefficients + kFold - 1) / kFold; }

inline void FetchKeys(const HeadTables& tables, const uint8_t* codes, KeyCell* cells) {
  const int folds = KeyFolds(tables);
  int j = 0;
  for (const int end : tables.group_ends) {
    for (; j < end; ++j) {
      const int8_t* table = tables.centroids.data.get() + j * kCentroids;
      for (int t = 0; t < kPageTokens; ++t) {
        KeyCell* lane = cells + ((t / 16 * folds + j / kFold) * 16 + t % 16) * kFold;
        lane[j % kFold] = static_cast<KeyCell>(table[codes[KeyPlace(t)]] + kKeyOffset);
      }
    }
    codes += kPageTokens;
  }
}

inline void FetchValues(const HeadTables& tables, const uint8_t* codes, ValueCell* cells) {
  int j = 0;
  for (const int end : tables.group_ends) {
    for (; j < end; ++j) {
      const int8_t* table = tables.centroids.data.get() + j * kCentroids;
      ValueCell* column = cells + (j / 16 * kPageTokens * 16 + j % 16 * kFold);
      for (int t = 0; t < kPageTokens; ++t) column[t / kFold * 16 * kFold + t % kFold] = table[codes[t]];
    }
    codes += kPageTokens;
  }
}

// Where weights are multiplied as bytes they are kept so.
#if HWY_TARGET == HWY_AVX3_DL
using WeightOperand = uint8_t;
#else
using WeightOperand = int16_t;
#endif

// Rounds the weights of a page to narrow operands; returns their scale.
HWY_INLINE float RoundWeights(V16 low, V16 high, WeightOperand* out) {
  const OperandScale s = ScaleOfLargest<false, false>(LargestLane(MaxInt(MagnitudeBits(low), MagnitudeBits(high))));
  if (HWY_UNLIKELY(s.scale != s.scale)) low = high = Zero();
  const V16 inverse = Set(s.inverse);
  StoreNarrowed(NearestInt(Mul(low, inverse)), out);
  StoreNarrowed(NearestInt(Mul(high, inverse)), out + 16);
  return s.scale;
}

// lanes + a where a is not 0.
HWY_INLINE V16 AddUnlessZero(V16 a, V16 lanes) {
  const V16 sum = Add(lanes, a);
  V16 r;
  NIBBLE_PARTS r.v[i] = hn::IfThenElse(hn::Eq(a.v[i], hn::Zero(F())), lanes.v[i], sum.v[i]);
  return r;
}

HWY_INLINE int32_t SumOfLanes(I16 a) {
  auto sum = a.v[0];
  for (int i = 1; i < kParts; ++i) sum = hn::Add(sum, a.v[i]);
  return hn::GetLane(hn::SumOfLanes(I(), sum));
}

HWY_INLINE int32_t LoadFold(const void* x) {
  int32_t fold;
  std::memcpy(&fold, x, sizeof(fold));
  return fold;
}

#if HWY_TARGET == HWY_AVX3_DL
HWY_INLINE I16 AddPairs(I16 sum, const int16_t* cells, int32_t pair) {
  sum.v[0].raw = _mm512_dpwssd_epi32(sum.v[0].raw, _mm512_loadu_si512(cells), _mm512_set1_epi32(pair));
  return sum;
}
#elif HWY_TARGET == HWY_AVX2
HWY_INLINE I16 AddPairs(I16 sum, const int16_t* cells, int32_t pair) {
  NIBBLE_PARTS {
    const __m256i cell = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(cells + i * 16));
    sum.v[i].raw = _mm256_add_epi32(sum.v[i].raw, _mm256_madd_epi16(cell, _mm256_set1_epi32(pair)));
  }
  return sum;
}
#else
HWY_INLINE I16 AddPairs(I16 sum, const int16_t* cells, int32_t pair) {
  const int32_t a = static_cast<int16_t>(pair), b = pair >> 16;
  NIBBLE_PARTS sum.v[i].raw += cells[2 * i] * a + cells[2 * i + 1] * b;
  return sum;
}
#endif

// dots[r][p] += the products of row r of x with the sixteen lanes of panel p; both are int16, `pairs` pairs of them.
template <int kRows, int kPanels>
HWY_INLINE void PairDots(const int16_t* panels, int64_t panel_stride, int pairs, const int16_t* x, int64_t x_stride,
                         I16 (&dots)[kRows][kPanels]) {
  for (int k = 0; k < pairs; ++k) {
    NIBBLE_UNROLL for (int p = 0; p < kPanels; ++p) {
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        dots[r][p] = AddPairs(dots[r][p], panels + p * panel_stride + k * 32, LoadFold(x + r * x_stride + 2 * k));
      }
    }
  }
}

// The operands of some rows against keys, as StoreOperands<true, true> leaves them: int16, or two planes of bytes.
struct KeyOperands {
  const uint8_t* data;  // rows `stride` apart
  int64_t stride;
  int64_t plane_bytes;
};

#if HWY_TARGET == HWY_AVX3_DL

// dots[r][half] = the products of row r with sixteen tokens, less the cells' offset.
template <int kRows>
HWY_INLINE void KeyDots(const KeyCell* cells, int folds, const KeyOperands& x, I16 (&dots)[kRows][2]) {
  __m512i upper[kRows][2], lower[kRows][2];
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    upper[r][0] = upper[r][1] = lower[r][0] = lower[r][1] = _mm512_setzero_si512();
  }
  for (int k = 0; k < folds; ++k) {
    const __m512i half[2] = {_mm512_loadu_si512(cells + k * 64), _mm512_loadu_si512(cells + (folds + k) * 64)};
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      const __m512i high = _mm512_set1_epi32(LoadFold(x.data + r * x.stride + 4 * k));
      const __m512i low = _mm512_set1_epi32(LoadFold(x.data + r * x.stride + x.plane_bytes + 4 * k));
      NIBBLE_UNROLL for (int h = 0; h < 2; ++h) {
        upper[r][h] = _mm512_dpbusd_epi32(upper[r][h], half[h], high);
        lower[r][h] = _mm512_dpbusd_epi32(lower[r][h], half[h], low);
      }
    }
  }
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    NIBBLE_UNROLL for (int h = 0; h < 2; ++h) {
      dots[r][h].v[0].raw = _mm512_add_epi32(lower[r][h], _mm512_slli_epi32(upper[r][h], 8));
    }
  }
}

// dots[r][p] = the products of row r of weights with the sixteen coefficients of panel p. Weights are bytes.
template <int kRows, int kPanels>
HWY_INLINE void ValueDots(const ValueCell* cells, const uint8_t* weights, I16 (&dots)[kRows][kPanels]) {
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    NIBBLE_UNROLL for (int p = 0; p < kPanels; ++p) dots[r][p] = SetInt(0);
  }
  NIBBLE_UNROLL for (int k = 0; k < kPageTokens / 4; ++k) {
    NIBBLE_UNROLL for (int p = 0; p < kPanels; ++p) {
      const __m512i cell = _mm512_loadu_si512(cells + (p * kPageTokens / 4 + k) * 64);
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const __m512i four = _mm512_set1_epi32(LoadFold(weights + r * kPageTokens + 4 * k));
        dots[r][p].v[0].raw = _mm512_dpbusd_epi32(dots[r][p].v[0].raw, four, cell);
      }
    }
  }
}

#else

template <int kRows>
HWY_INLINE void KeyDots(const KeyCell* cells, int folds, const KeyOperands& x, I16 (&dots)[kRows][2]) {
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) dots[r][0] = dots[r][1] = SetInt(0);
  PairDots<kRows, 2>(cells, folds * 32, folds, reinterpret_cast<const int16_t*>(x.data), x.stride / 2, dots);
}

template <int kRows, int kPanels>
HWY_INLINE void ValueDots(const ValueCell* cells, const int16_t* weights, I16 (&dots)[kRows][kPanels]) {
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    NIBBLE_UNROLL for (int p = 0; p < kPanels; ++p) dots[r][p] = SetInt(0);
  }
  PairDots<kRows, kPanels>(cells, kPageTokens * 16, kPageTokens / 2, weights, kPageTokens, dots);
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_COUPLED_CELLS_INL_H_
