// Pages' codes looked up in their codebooks, and the products of what was found with rows of integers: of keys two
// pages at a time, of values those of a span.
//
// What is looked up lies in cells (coupled_operands-inl.h). Of keys a lane is a token and holds coefficients, of values
// it holds tokens of a coefficient. Where bytes are multiplied a look-up costs one permutation of two registers
// for 64 tokens of a mirrored codebook and two of another, and cells need not leave registers: they are kept in memory
// where many rows meet them. Elsewhere cells lie in memory (coupled_cells-inl.h), and what is kept of keys is
// wider ones.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_CODECS_COUPLED_PAGES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_CODECS_COUPLED_PAGES_INL_H_
#undef NIBBLE_KVCACHE_CODECS_COUPLED_PAGES_INL_H_
#else
#define NIBBLE_KVCACHE_CODECS_COUPLED_PAGES_INL_H_
#endif

#include <array>
#include <cstdint>

#include "kvcache/codecs/coupled_cells-inl.h"
#include "kvcache/codecs/coupled_lookups-inl.h"
#include "kvcache/codecs/coupled_operands-inl.h"
#include "kvcache/codecs/coupled_tables.h"
#include "kvcache/simd/vec16-inl.h"

#if HWY_TARGET == HWY_AVX3_DL
NIBBLE_BEFORE_VNNI_NAMESPACE();
#else
HWY_BEFORE_NAMESPACE();
#endif
namespace nibble {
namespace kv {
namespace HWY_NAMESPACE {

// Pages whose keys are looked up together.
inline constexpr int kPagesScored = 2;

// The codes of one head's keys in them.
using PageCodes = std::array<const uint8_t*, kPagesScored>;

// The codes of one head's values in the pages of a span, or in some of them. Where their number is odd, the last one is
// there twice.
struct SpanCodes {
  int pages;
  std::array<const uint8_t*, kSpanPages> of;
};

HWY_INLINE int KeyFolds(const HeadTables& tables) { return (tables.coefficients + kFold - 1) / kFold; }

// The operands of some rows against keys, as StoreKeyOperands leaves them.
struct QueryRows {
  const KeyOperand* data;
  int64_t stride;  // of a row, in numbers
};

#if HWY_TARGET == HWY_AVX3_DL

class KeyPages {
 public:
  HWY_INLINE KeyPages(const HeadTables& tables, const PageCodes& codes) : tables_(tables), folds_(KeyFolds(tables)) {
    codes_.Load<true>(tables, 0, codes[0], codes[1]);
  }

  // Looks up what Dots would look up at every call.
  HWY_INLINE void Keep() {
    for (int k = 0; k < folds_; ++k) LookUpCells(k, kept_[k]);
    is_kept_ = true;
  }

  // dots[p][r][half] = the products of row r with sixteen tokens of page p, less what the cells' offset adds.
  template <int kRows>
  HWY_INLINE void Dots(const QueryRows& x, I16 (&dots)[kPagesScored][kRows][2]) const {
    __m512i sums[kRows][kPagesScored][2];
    NIBBLE_UNROLL for (int i = 0; i < kRows * kPagesScored * 2; ++i) {
      sums[i / 4][i / 2 % 2][i % 2] = _mm512_setzero_si512();
    }
    for (int k = 0; k < folds_; ++k) {
      __m512i cells[kPagesScored][2];
      if (is_kept_) {
        NIBBLE_UNROLL for (int i = 0; i < 4; ++i) cells[i / 2][i % 2] = kept_[k][i / 2][i % 2];
      } else {
        LookUpCells(k, cells);
      }
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const __m512i four = _mm512_set1_epi32(LoadFold(x.data + r * x.stride + 4 * k));
        NIBBLE_UNROLL for (int i = 0; i < 4; ++i) {
          sums[r][i / 2][i % 2] = AddByteProducts(sums[r][i / 2][i % 2], cells[i / 2][i % 2], four);
        }
      }
    }
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      NIBBLE_UNROLL for (int i = 0; i < 4; ++i) dots[i / 2][r][i % 2].v[0].raw = sums[r][i / 2][i % 2];
    }
  }

 private:
  // Four coefficients of 64 tokens: tokens lie in the order of KeyPlace, 8 of one page and 8 of the other in turn.
  HWY_INLINE void LookUpCells(int k, __m512i (&cells)[kPagesScored][2]) const {
    __m512i four[4];
    if (tables_.mirrored()) {
      codes_.LookUp(FourCodebooks<true>(tables_, 4 * k), 0, four);
    } else {
      codes_.LookUp(FourCodebooks<false>(tables_, 4 * k), 0, four);
    }
    const __m512i low01 = _mm512_unpacklo_epi8(four[0], four[1]), high01 = _mm512_unpackhi_epi8(four[0], four[1]);
    const __m512i low23 = _mm512_unpacklo_epi8(four[2], four[3]), high23 = _mm512_unpackhi_epi8(four[2], four[3]);
    cells[0][0] = _mm512_unpacklo_epi16(low01, low23), cells[0][1] = _mm512_unpackhi_epi16(low01, low23);
    cells[1][0] = _mm512_unpacklo_epi16(high01, high23), cells[1][1] = _mm512_unpackhi_epi16(high01, high23);
  }

  const HeadTables& tables_;
  const int folds_;
  CodeVectors<1> codes_;
  bool is_kept_ = false;
  __m512i kept_[kMaxCoupledHeadDim / kFold][kPagesScored][2];
};

// Weights of a block of rows over the pages of a span.
class WeightRows {
 public:
  // The sixteen of row `row` from token `first` of the span on.
  HWY_INLINE void Set(int row, int first, I16 weights) {
    _mm_store_si128(reinterpret_cast<__m128i*>(rows_[row] + first), _mm512_cvtepi32_epi8(weights.v[0].raw));
  }
  // Of a pair of pages.
  HWY_INLINE __m512i Get(int row, int pair) const { return _mm512_load_si512(rows_[row] + pair * kCodeVector); }

 private:
  HWY_ALIGN uint8_t rows_[kBlockRows][kSpanPages * kPageTokens];
};

class ValuePages {
 public:
  static constexpr bool kKeepsAlways = false;

  HWY_INLINE ValuePages(const HeadTables& tables, const SpanCodes& codes)
      : tables_(tables), pairs_((codes.pages + 1) / 2) {
    for (int pair = 0; pair < pairs_; ++pair) {
      codes_.Load<false>(tables, pair, codes.of[2 * pair], codes.of[2 * pair + 1]);
    }
  }

  // Looks up panel `panel` for Dots to find again.
  HWY_INLINE void Keep(int panel) {
    if (tables_.mirrored()) {
      KeepIn<true>(panel);
    } else {
      KeepIn<false>(panel);
    }
    kept_panel_ = panel;
  }

  // dots[r] = the products of row r of weights, `first_row` and on, with sixteen coefficients.
  template <int kRows>
  HWY_INLINE void Dots(int panel, const WeightRows& weights, int first_row, I16 (&dots)[kRows]) const {
    __m512i quarters[kRows][4];
    NIBBLE_UNROLL for (int q = 0; q < 4; ++q) {
      __m512i of_quarter[kRows];
      if (panel == kept_panel_) {
        DotsOfQuarter(Kept{kept_[q]}, weights, first_row, of_quarter);
      } else if (tables_.mirrored()) {
        DotsOfQuarter(LookedUp<true>{codes_, {tables_, 16 * panel + 4 * q}}, weights, first_row, of_quarter);
      } else {
        DotsOfQuarter(LookedUp<false>{codes_, {tables_, 16 * panel + 4 * q}}, weights, first_row, of_quarter);
      }
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) quarters[r][q] = of_quarter[r];
    }
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) dots[r].v[0].raw = AddQuarters(quarters[r]);
  }

 private:
  using Codes = CodeVectors<kSpanPages / 2>;

  // Four coefficients of the tokens of a pair, looked up or as kept.
  template <bool kMirrored>
  struct LookedUp {
    const Codes& codes;
    FourCodebooks<kMirrored> books;

    HWY_INLINE void Get(int pair, __m512i (&four)[4]) const { codes.LookUp(books, pair, four); }
  };
  struct Kept {
    const __m512i (*of_pair)[4];

    HWY_INLINE void Get(int pair, __m512i (&four)[4]) const {
      NIBBLE_UNROLL for (int j = 0; j < 4; ++j) four[j] = of_pair[pair][j];
    }
  };

  template <bool kMirrored>
  HWY_INLINE void KeepIn(int panel) {
    NIBBLE_UNROLL for (int q = 0; q < 4; ++q) {
      const FourCodebooks<kMirrored> books(tables_, 16 * panel + 4 * q);
      for (int pair = 0; pair < pairs_; ++pair) codes_.LookUp(books, pair, kept_[q][pair]);
    }
  }

  // Of four coefficients, in each 128 bits the sums over some of the tokens.
  template <int kRows, typename Cells>
  HWY_INLINE void DotsOfQuarter(const Cells& cells, const WeightRows& weights, int first_row,
                                __m512i (&dots)[kRows]) const {
    // Tokens lie in the lanes, until those of all pages are added up.
    __m512i sums[kRows][4];
    NIBBLE_UNROLL for (int i = 0; i < 4 * kRows; ++i) sums[i / 4][i % 4] = _mm512_setzero_si512();
#pragma GCC unroll 1
    for (int pair = 0; pair < pairs_; ++pair) {
      __m512i four[4];
      cells.Get(pair, four);
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const __m512i of_row = weights.Get(first_row + r, pair);
        NIBBLE_UNROLL for (int j = 0; j < 4; ++j) sums[r][j] = AddByteProducts(sums[r][j], of_row, four[j]);
      }
    }
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) dots[r] = AddFours(sums[r]);
  }

  // Lane i of each 128 bits: what those of x[i] add up to.
  static HWY_INLINE __m512i AddFours(const __m512i (&x)[4]) {
    const __m512i sum01 = _mm512_add_epi32(_mm512_unpacklo_epi32(x[0], x[1]), _mm512_unpackhi_epi32(x[0], x[1]));
    const __m512i sum23 = _mm512_add_epi32(_mm512_unpacklo_epi32(x[2], x[3]), _mm512_unpackhi_epi32(x[2], x[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(sum01, sum23), _mm512_unpackhi_epi64(sum01, sum23));
  }
  // The i-th 128 bits: what those of x[i] add up to.
  static HWY_INLINE __m512i AddQuarters(const __m512i (&x)[4]) {
    const __m512i sum01 = AddHalves(x[0], x[1]), sum23 = AddHalves(x[2], x[3]);
    return AddHalves(sum01, sum23);
  }
  // First a's, then b's sums of the first and second, and of the third and fourth 128 bits.
  static HWY_INLINE __m512i AddHalves(__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
  }

  const HeadTables& tables_;
  const int pairs_;
  Codes codes_;
  int kept_panel_ = -1;
  __m512i kept_[4][kSpanPages / 2][4];
};

#else

class KeyPages {
 public:
  KeyPages(const HeadTables& tables, const PageCodes& codes)
      : folds_(KeyFolds(tables)), panel_stride_(tables.padded * 16) {
    for (int p = 0; p < kPagesScored; ++p)
      FillKeyCells(tables, codes[p], panel_stride_, cells_ + p * 2 * panel_stride_);
  }

  // Widens what Dots would widen at every call.
  HWY_INLINE void Keep() {
    WidenCells(cells_, kPagesScored * 2 * panel_stride_, kept_);
    is_kept_ = true;
  }

  // dots[p][r][half] = the products of row r with sixteen tokens of page p.
  template <int kRows>
  HWY_INLINE void Dots(const QueryRows& x, I16 (&dots)[kPagesScored][kRows][2]) const {
    for (int p = 0; p < kPagesScored; ++p) {
      I16 lanes[kRows][2];
      if (is_kept_) {
        PairDots<kRows, 2>(kept_ + p * 2 * panel_stride_, panel_stride_, folds_, x.data, x.stride, lanes);
      } else {
        PairDots<kRows, 2>(cells_ + p * 2 * panel_stride_, panel_stride_, folds_, x.data, x.stride, lanes);
      }
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) ToTokens(lanes[r], dots[p][r]);
    }
  }

 private:
  const int folds_, panel_stride_;
  bool is_kept_ = false;
  // Of each page as FillKeyCells has them.
  HWY_ALIGN int8_t cells_[kPagesScored * kMaxCoupledHeadDim * kPageTokens];
  HWY_ALIGN int16_t kept_[kPagesScored * kMaxCoupledHeadDim * kPageTokens];
};

// Weights of a block of rows over the pages of a span.
class WeightRows {
 public:
  // The sixteen of row `row` from token `first` of the span on.
  HWY_INLINE void Set(int row, int first, I16 weights) { StoreNarrowed(weights, rows_[row] + first); }
  HWY_INLINE const int16_t* Get(int row) const { return rows_[row]; }

  static constexpr int kStride = kSpanPages * kPageTokens;

 private:
  HWY_ALIGN int16_t rows_[kBlockRows][kStride];
};

class ValuePages {
 public:
  static constexpr bool kKeepsAlways = true;  // Dots looks nothing up

  ValuePages(const HeadTables& tables, const SpanCodes& codes) : tables_(tables), codes_(codes) {}

  // Fills the cells of panel `panel`, which Dots needs.
  HWY_INLINE void Keep(int panel) {
    for (int p = 0; p < codes_.pages; ++p) FillValueCells(tables_, codes_.of[p], panel, cells_ + p * 16 * kPageTokens);
  }

  // dots[r] = the products of row r of weights, `first_row` and on, with sixteen coefficients.
  template <int kRows>
  HWY_INLINE void Dots(int /*panel*/, const WeightRows& weights, int first_row, I16 (&dots)[kRows]) const {
    I16 of_panel[kRows][1];
    PairDots<kRows, 1>(cells_, 0, codes_.pages * kPageTokens / 2, weights.Get(first_row), WeightRows::kStride,
                       of_panel);
    for (int r = 0; r < kRows; ++r) dots[r] = of_panel[r][0];
  }

 private:
  const HeadTables& tables_;
  const SpanCodes& codes_;
  HWY_ALIGN int16_t cells_[kSpanPages * 16 * kPageTokens];  // of each page as FillValueCells has them
};

#endif

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_COUPLED_PAGES_INL_H_
