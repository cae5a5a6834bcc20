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

// Pages whose cells are fetched together.
inline constexpr int kPagesAtOnce = 2;

// The codes of one head's keys or values in some pages, and where their cells go.
template <typename Cell>
struct Fetch {
  const uint8_t* codes[kPagesAtOnce];
  Cell* cells[kPagesAtOnce];
  int pages;
};

HWY_INLINE int KeyFolds(const HeadTables& tables) { return (tables.coefficients + kFold - 1) / kFold; }

#if HWY_TARGET == HWY_AVX3_DL

// The codes of all groups in two pages, 64 tokens to a vector.
struct CodeVectors {
  HWY_ALIGN uint8_t codes[kMaxCoupledHeadDim * 2 * kPageTokens];

  // Of each group eight codes of one page and eight of the other in turn, or one page after the other.
  template <bool kInTurn>
  HWY_INLINE void Load(const HeadTables& tables, const uint8_t* const (&pages)[kPagesAtOnce]) {
    const __m512i in_turn = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    const int groups = static_cast<int>(tables.group_ends.size());
    for (int g = 0; g < groups; ++g) {
      const auto* a = reinterpret_cast<const __m256i*>(pages[0]) + g;
      const auto* b = reinterpret_cast<const __m256i*>(pages[1]) + g;
      __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(a)), _mm256_loadu_si256(b), 1);
      if constexpr (kInTurn) both = _mm512_permutexvar_epi64(in_turn, both);
      _mm512_store_si512(codes + g * 64, both);
    }
  }

  // Coefficient j of each token's centroid. A permutation looks up 7 bits of a code in half a table.
  HWY_INLINE __m512i LookUp(const HeadTables& tables, int j) const {
    const __m512i code = _mm512_load_si512(codes + tables.group_of.data[j] * 64);
    const auto* parts = reinterpret_cast<const __m512i*>(tables.centroids.data.get() + j * kCentroids);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(code), _mm512_permutex2var_epi8(parts[0], code, parts[1]),
                                  _mm512_permutex2var_epi8(parts[2], code, parts[3]));
  }
};

// Four coefficients, each of tokens in the order of KeyPlace, 8 bytes of one page and 8 of the other in turn, to cells.
HWY_INLINE void StoreKeyCells(const __m512i* four, int64_t half, KeyCell* a, KeyCell* b) {
  const __m512i low01 = _mm512_unpacklo_epi8(four[0], four[1]), high01 = _mm512_unpackhi_epi8(four[0], four[1]);
  const __m512i low23 = _mm512_unpacklo_epi8(four[2], four[3]), high23 = _mm512_unpackhi_epi8(four[2], four[3]);
  _mm512_store_si512(a, _mm512_unpacklo_epi16(low01, low23));
  _mm512_store_si512(a + half, _mm512_unpackhi_epi16(low01, low23));
  _mm512_store_si512(b, _mm512_unpacklo_epi16(high01, high23));
  _mm512_store_si512(b + half, _mm512_unpackhi_epi16(high01, high23));
}

inline HWY_NOINLINE void FetchKeys(const HeadTables& tables, const Fetch<KeyCell>& fetch) {
  CodeVectors codes;
  codes.Load<true>(tables, fetch.codes);
  const int folds = KeyFolds(tables);
  for (int k = 0; k < folds; ++k) {
    __m512i four[4];
    NIBBLE_UNROLL for (int j = 0; j < 4; ++j) four[j] = codes.LookUp(tables, 4 * k + j);
    StoreKeyCells(four, folds * 64, fetch.cells[0] + k * 64, fetch.cells[1] + k * 64);
  }
}

// Sixteen coefficients of 64 tokens to cells: a transposition of sixteen times sixteen blocks of four tokens.
HWY_INLINE void StoreValueCells(const __m512i* x, ValueCell* a, ValueCell* b) {
  __m512i t[4][4];  // [coefficients 4 q .. 4 q + 3][c]: blocks c, 4 + c, 8 + c, 12 + c
  NIBBLE_UNROLL for (int q = 0; q < 4; ++q) {
    const __m512i* row = x + 4 * q;
    const __m512i low01 = _mm512_unpacklo_epi32(row[0], row[1]), high01 = _mm512_unpackhi_epi32(row[0], row[1]);
    const __m512i low23 = _mm512_unpacklo_epi32(row[2], row[3]), high23 = _mm512_unpackhi_epi32(row[2], row[3]);
    t[q][0] = _mm512_unpacklo_epi64(low01, low23), t[q][1] = _mm512_unpackhi_epi64(low01, low23);
    t[q][2] = _mm512_unpacklo_epi64(high01, high23), t[q][3] = _mm512_unpackhi_epi64(high01, high23);
  }
  NIBBLE_UNROLL for (int c = 0; c < 4; ++c) {
    const __m512i even0 = _mm512_shuffle_i32x4(t[0][c], t[1][c], 0x88);
    const __m512i even1 = _mm512_shuffle_i32x4(t[2][c], t[3][c], 0x88);
    const __m512i odd0 = _mm512_shuffle_i32x4(t[0][c], t[1][c], 0xDD);
    const __m512i odd1 = _mm512_shuffle_i32x4(t[2][c], t[3][c], 0xDD);
    _mm512_store_si512(a + c * 64, _mm512_shuffle_i32x4(even0, even1, 0x88));
    _mm512_store_si512(a + (4 + c) * 64, _mm512_shuffle_i32x4(odd0, odd1, 0x88));
    _mm512_store_si512(b + c * 64, _mm512_shuffle_i32x4(even0, even1, 0xDD));
    _mm512_store_si512(b + (4 + c) * 64, _mm512_shuffle_i32x4(odd0, odd1, 0xDD));
  }
}

inline HWY_NOINLINE void FetchValues(const HeadTables& tables, const Fetch<ValueCell>& fetch) {
  CodeVectors codes;
  codes.Load<false>(tables, fetch.codes);
  for (int first = 0; first < tables.padded; first += 16) {
    __m512i sixteen[16];
    NIBBLE_UNROLL for (int j = 0; j < 16; ++j) sixteen[j] = codes.LookUp(tables, first + j);
    StoreValueCells(sixteen, fetch.cells[0] + first * kPageTokens, fetch.cells[1] + first * kPageTokens);
  }
}

#else

// visit(coefficient, its table, its group's codes)
template <typename Visit>
HWY_INLINE void ForEachCoefficient(const HeadTables& tables, const uint8_t* codes, const Visit& visit) {
  int j = 0;
  for (const int end : tables.group_ends) {
    for (; j < end; ++j) visit(j, tables.centroids.data.get() + j * kCentroids, codes);
    codes += kPageTokens;
  }
}

inline void FetchKeys(const HeadTables& tables, const Fetch<KeyCell>& fetch) {
  const int folds = KeyFolds(tables);
  for (int p = 0; p < fetch.pages; ++p) {
    ForEachCoefficient(tables, fetch.codes[p], [&](int j, const uint8_t* table, const uint8_t* codes) {
      KeyCell* low = fetch.cells[p] + j / kFold * 16 * kFold + j % kFold;
      KeyCell* high = low + folds * 16 * kFold;
      NIBBLE_UNROLL for (int t = 0; t < 16; ++t) {
        low[t * kFold] = static_cast<KeyCell>(table[codes[KeyPlace(t)]] - 128);
        high[t * kFold] = static_cast<KeyCell>(table[codes[KeyPlace(16 + t)]] - 128);
      }
    });
  }
}

inline void FetchValues(const HeadTables& tables, const Fetch<ValueCell>& fetch) {
  for (int p = 0; p < fetch.pages; ++p) {
    ForEachCoefficient(tables, fetch.codes[p], [&](int j, const uint8_t* table, const uint8_t* codes) {
      ValueCell* column = fetch.cells[p] + (j / 16 * kPageTokens * 16 + j % 16 * kFold);
      ValueCell* second_half = column + 16 * 16;
      NIBBLE_UNROLL for (int t = 0; t < 16; ++t) {
        column[t / kFold * 16 * kFold + t % kFold] = static_cast<int8_t>(table[codes[t]]);
        second_half[t / kFold * 16 * kFold + t % kFold] = static_cast<int8_t>(table[codes[16 + t]]);
      }
    });
  }
}

#endif

// Where weights are multiplied as bytes they are kept so.
#if HWY_TARGET == HWY_AVX3_DL
using WeightOperand = uint8_t;
#else
using WeightOperand = int16_t;
#endif

// Rounds the weights of a page to narrow operands; returns their scale. A call, so that the operands are in memory for
// the dot products to broadcast from.
inline HWY_NOINLINE float RoundWeights(const float* weights, WeightOperand* out) {
  V16 low = Load(weights), high = Load(weights + 16);
  const OperandScale s = ScaleOfLargest<false, false>(LargestLane(MaxInt(MagnitudeBits(low), MagnitudeBits(high))));
  if (HWY_UNLIKELY(s.scale != s.scale)) low = high = Zero();
  const V16 inverse = Set(s.inverse);
  const I16 x[2] = {NearestInt(Mul(low, inverse)), NearestInt(Mul(high, inverse))};
#if HWY_TARGET == HWY_AVX3_DL
  _mm_store_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(x[0].v[0].raw));
  _mm_store_si128(reinterpret_cast<__m128i*>(out) + 1, _mm512_cvtepi32_epi8(x[1].v[0].raw));
#else
  StoreNarrowed(x[0], out);
  StoreNarrowed(x[1], out + 16);
#endif
  return s.scale;
}

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
  NIBBLE_PARTS {
    out[MatrixColumn(i)] = static_cast<int16_t>(a.v[i].raw);
    out[MatrixColumn(16 + i)] = static_cast<int16_t>(b.v[i].raw);
  }
#endif
}

// Numbers of a row of keys' operands.
HWY_INLINE int OperandWidth(const HeadTables& keys) {
  constexpr int kUnit = kFold == 4 ? 64 : 16;
  return (keys.padded + kUnit - 1) / kUnit * kUnit;
}

// Stores y * inverse to the nearest integers as KeyDots takes them; returns their sum.
#if HWY_TARGET == HWY_AVX3_DL
HWY_INLINE int32_t StoreKeyOperands(const float* y, int width, V16 inverse, uint8_t* operands) {
  // Narrowing takes four numbers of each vector in turn.
  const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  __m512i sum = _mm512_setzero_si512();
  for (int j = 0; j < width; j += 64) {
    __m512i x[4];
    NIBBLE_UNROLL for (int i = 0; i < 4; ++i) x[i] = NearestInt(Mul(Load(y + j + 16 * i), inverse)).v[0].raw;
    const __m512i a = _mm512_packs_epi32(x[0], x[1]), b = _mm512_packs_epi32(x[2], x[3]);
    sum = AddPairProducts(AddPairProducts(sum, a, _mm512_set1_epi16(1)), b, _mm512_set1_epi16(1));
    // The lower byte counts as signed.
    const __m512i half = _mm512_set1_epi16(128), mask = _mm512_set1_epi16(0xFF);
    const __m512i upper = _mm512_packs_epi16(_mm512_srai_epi16(_mm512_add_epi16(a, half), 8),
                                             _mm512_srai_epi16(_mm512_add_epi16(b, half), 8));
    const __m512i lower = _mm512_packus_epi16(_mm512_and_si512(a, mask), _mm512_and_si512(b, mask));
    _mm512_storeu_si512(operands + j, _mm512_permutexvar_epi32(in_order, upper));
    _mm512_storeu_si512(operands + width + j, _mm512_permutexvar_epi32(in_order, lower));
  }
  return _mm512_reduce_add_epi32(sum);
}
#else
HWY_INLINE int32_t StoreKeyOperands(const float* y, int width, V16 inverse, uint8_t* operands) {
  for (int j = 0; j < width; j += 16) {
    StoreNarrowed(NearestInt(Mul(Load(y + j), inverse)), reinterpret_cast<int16_t*>(operands) + j);
  }
  return 0;  // cells have no offset
}
#endif

HWY_INLINE int32_t LoadFold(const void* x) {
  int32_t fold;
  std::memcpy(&fold, x, sizeof(fold));
  return fold;
}

// dots[r][p] = the products of row r of x with the sixteen lanes of panel p; both are int16, `pairs` pairs of them.
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
template <int kRows, int kPanels>
HWY_INLINE void PairDots(const int16_t* panels, int64_t panel_stride, int pairs, const int16_t* x, int64_t x_stride,
                         I16 (&dots)[kRows][kPanels]) {
  __m256i sums[kRows][2 * kPanels];
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    NIBBLE_UNROLL for (int p = 0; p < 2 * kPanels; ++p) sums[r][p] = _mm256_setzero_si256();
  }
  for (int k = 0; k < pairs; ++k) {
    NIBBLE_UNROLL for (int p = 0; p < 2 * kPanels; ++p) {
      const int16_t* at = panels + p / 2 * panel_stride + k * 32 + p % 2 * 16;
      const __m256i panel = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
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
template <int kRows, int kPanels>
HWY_INLINE void PairDots(const int16_t* panels, int64_t panel_stride, int pairs, const int16_t* x, int64_t x_stride,
                         I16 (&dots)[kRows][kPanels]) {
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPanels; ++p) {
      for (int lane = 0; lane < 16; ++lane) {
        int32_t sum = 0;
        for (int i = 0; i < 2 * pairs; ++i) {
          sum += panels[p * panel_stride + i / 2 * 32 + 2 * lane + i % 2] * x[r * x_stride + i];
        }
        dots[r][p].v[lane].raw = sum;
      }
    }
  }
}
#endif

// The operands of some rows against keys, as StoreKeyOperands leaves them: int16, or two planes of bytes.
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
        upper[r][h] = AddByteProducts(upper[r][h], half[h], high);
        lower[r][h] = AddByteProducts(lower[r][h], half[h], low);
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
  __m512i sums[kRows][kPanels];
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    NIBBLE_UNROLL for (int p = 0; p < kPanels; ++p) sums[r][p] = _mm512_setzero_si512();
  }
  NIBBLE_UNROLL for (int k = 0; k < kPageTokens / 4; ++k) {
    __m512i panel[kPanels];
    NIBBLE_UNROLL for (int p = 0; p < kPanels; ++p) {
      panel[p] = _mm512_loadu_si512(cells + (p * kPageTokens / 4 + k) * 64);
    }
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      const __m512i four = _mm512_set1_epi32(LoadFold(weights + r * kPageTokens + 4 * k));
      NIBBLE_UNROLL for (int p = 0; p < kPanels; ++p) sums[r][p] = AddByteProducts(sums[r][p], four, panel[p]);
    }
  }
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    NIBBLE_UNROLL for (int p = 0; p < kPanels; ++p) dots[r][p].v[0].raw = sums[r][p];
  }
}

#else

template <int kRows>
HWY_INLINE void KeyDots(const KeyCell* cells, int folds, const KeyOperands& x, I16 (&dots)[kRows][2]) {
  PairDots<kRows, 2>(cells, folds * 32, folds, reinterpret_cast<const int16_t*>(x.data), x.stride / 2, dots);
}

template <int kRows, int kPanels>
HWY_INLINE void ValueDots(const ValueCell* cells, const int16_t* weights, I16 (&dots)[kRows][kPanels]) {
  PairDots<kRows, kPanels>(cells, kPageTokens * 16, kPageTokens / 2, weights, kPageTokens, dots);
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_COUPLED_CELLS_INL_H_
