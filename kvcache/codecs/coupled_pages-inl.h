// A page's codes looked up in their codebooks, and the products of what was found with rows of integers.
//
// What is looked up lies in cells (coupled_operands-inl.h). Of keys a lane is a token and holds coefficients, of values
// a lane is a coefficient and holds tokens. Where bytes are multiplied a look-up costs one permutation for 64 tokens of
// a mirrored codebook and two of another, which take two each, and cells need not leave registers: they are kept in
// memory where many rows meet them. Elsewhere cells lie in memory (coupled_cells-inl.h), and what is kept of keys is
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

// Pages that are looked up together.
inline constexpr int kPagesLookedUp = 2;

// The codes of one head's keys or values in some pages.
using PageCodes = std::array<const uint8_t*, kPagesLookedUp>;

HWY_INLINE int KeyFolds(const HeadTables& tables) { return (tables.coefficients + kFold - 1) / kFold; }

// The operands of some rows against keys, as StoreKeyOperands leaves them.
struct QueryRows {
  const KeyOperand* data;
  int64_t stride;  // of a row, in numbers
};

#if HWY_TARGET == HWY_AVX3_DL

// The codes of all groups in two pages, 64 tokens to a vector.
class CodeVectors {
 public:
  // Of each group eight codes of one page and eight of the other in turn, or one page after the other.
  template <bool kInTurn>
  HWY_INLINE void Load(const HeadTables& tables, const PageCodes& pages) {
    const __m512i in_turn = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    const int groups = static_cast<int>(tables.group_ends.size());
    for (int g = 0; g < groups; ++g) {
      const auto* a = reinterpret_cast<const __m256i*>(pages[0]) + g;
      const auto* b = reinterpret_cast<const __m256i*>(pages[1]) + g;
      __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(a)), _mm256_loadu_si256(b), 1);
      if constexpr (kInTurn) both = _mm512_permutexvar_epi64(in_turn, both);
      _mm512_store_si512(codes_ + g * kCodeVector, both);
    }
  }

  // Looks up four coefficients, `first` and on, of each token's centroid. `first` is even.
  HWY_INLINE void LookUp(const HeadTables& tables, int first, __m512i (&found)[4]) const {
    if (tables.mirrored()) {
      LookUpIn<true>(tables, first, found);
    } else {
      LookUpIn<false>(tables, first, found);
    }
  }

 private:
  template <bool kMirrored>
  HWY_INLINE void LookUpIn(const HeadTables& tables, int first, __m512i (&found)[4]) const {
    constexpr int kEntries = kMirrored ? kMirroredEntries : kCentroids;
    const uint16_t* code_at = tables.code_at.data.get() + first;
    const uint8_t* table = tables.centroids.data.get() + int64_t{first} * kEntries;
    asm("" : "+r"(code_at), "+r"(table));  // or the compiler keeps an address for each coefficient, and spills them
    NIBBLE_UNROLL for (int j = 0; j < 4; ++j, table += kEntries) {
      const __m512i code = _mm512_load_si512(codes_ + code_at[j]);
      if constexpr (kMirrored) {
        const __m512i entry = _mm512_permutexvar_epi8(code, _mm512_load_si512(table));
        // Modulo 256 that is right of keys too, which are offset by 128.
        const __mmask64 turned = _mm512_movepi8_mask(j % 2 == 0 ? _mm512_add_epi8(code, code) : code);
        found[j] = _mm512_mask_sub_epi8(entry, turned, _mm512_setzero_si512(), entry);
      } else {
        // A permutation looks up 7 bits of a code in half a table.
        const auto* parts = reinterpret_cast<const __m512i*>(table);
        found[j] = _mm512_mask_blend_epi8(_mm512_movepi8_mask(code), _mm512_permutex2var_epi8(parts[0], code, parts[1]),
                                          _mm512_permutex2var_epi8(parts[2], code, parts[3]));
      }
    }
  }

  HWY_ALIGN uint8_t codes_[kMaxCoupledHeadDim * kCodeVector];
};

class KeyPages {
 public:
  HWY_INLINE KeyPages(const HeadTables& tables, const PageCodes& codes) : tables_(tables), folds_(KeyFolds(tables)) {
    codes_.Load<true>(tables, codes);
  }

  // Looks up what Dots would look up at every call.
  HWY_INLINE void Keep() {
    for (int k = 0; k < folds_; ++k) LookUpCells(k, kept_[k]);
    is_kept_ = true;
  }

  // dots[p][r][half] = the products of row r with sixteen tokens of page p, less what the cells' offset adds.
  template <int kRows>
  HWY_INLINE void Dots(const QueryRows& x, I16 (&dots)[kPagesLookedUp][kRows][2]) const {
    __m512i sums[kRows][kPagesLookedUp][2];
    NIBBLE_UNROLL for (int i = 0; i < kRows * kPagesLookedUp * 2; ++i) {
      sums[i / 4][i / 2 % 2][i % 2] = _mm512_setzero_si512();
    }
    for (int k = 0; k < folds_; ++k) {
      __m512i cells[kPagesLookedUp][2];
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
  HWY_INLINE void LookUpCells(int k, __m512i (&cells)[kPagesLookedUp][2]) const {
    __m512i four[4];
    codes_.LookUp(tables_, 4 * k, four);
    const __m512i low01 = _mm512_unpacklo_epi8(four[0], four[1]), high01 = _mm512_unpackhi_epi8(four[0], four[1]);
    const __m512i low23 = _mm512_unpacklo_epi8(four[2], four[3]), high23 = _mm512_unpackhi_epi8(four[2], four[3]);
    cells[0][0] = _mm512_unpacklo_epi16(low01, low23), cells[0][1] = _mm512_unpackhi_epi16(low01, low23);
    cells[1][0] = _mm512_unpacklo_epi16(high01, high23), cells[1][1] = _mm512_unpackhi_epi16(high01, high23);
  }

  const HeadTables& tables_;
  const int folds_;
  CodeVectors codes_;
  bool is_kept_ = false;
  __m512i kept_[kMaxCoupledHeadDim / kFold][kPagesLookedUp][2];
};

// Weights of a block of rows over some pages: of each row four vectors, each with one of every four folds four times,
// as the cells of a ValueQuarter meet them.
class WeightRows {
 public:
  // weights: of the pages, one after another.
  HWY_INLINE void Set(int row, const I16 (&weights)[2 * kPagesLookedUp]) {
    const __m512i all = Narrow<false>(weights);
    _mm512_store_si512(rows_[row][0], _mm512_shuffle_epi32(all, _MM_PERM_AAAA));
    _mm512_store_si512(rows_[row][1], _mm512_shuffle_epi32(all, _MM_PERM_BBBB));
    _mm512_store_si512(rows_[row][2], _mm512_shuffle_epi32(all, _MM_PERM_CCCC));
    _mm512_store_si512(rows_[row][3], _mm512_shuffle_epi32(all, _MM_PERM_DDDD));
  }
  HWY_INLINE __m512i Get(int row, int fold) const { return _mm512_load_si512(rows_[row][fold]); }

 private:
  HWY_ALIGN uint8_t rows_[kBlockRows][4][kCodeVector];
};

// Four coefficients of the values of some pages: in 128 bits they have four tokens each, the next four tokens lie in
// the next of the four vectors.
using ValueQuarter = __m512i[4];

class ValuePages {
 public:
  HWY_INLINE ValuePages(const HeadTables& tables, const PageCodes& codes) : tables_(tables) {
    codes_.Load<false>(tables, codes);
  }

  // Looks up panel `panel` for Dots to find again.
  HWY_INLINE void Keep(int panel) {
    NIBBLE_UNROLL for (int q = 0; q < 4; ++q) LookUpQuarter(panel, q, kept_[q]);
    kept_panel_ = panel;
  }

  // dots[p][r] = the products of row r of weights, `first_row` and on, with sixteen coefficients in page p.
  template <int kRows>
  HWY_INLINE void Dots(int panel, const WeightRows& weights, int first_row, I16 (&dots)[kPagesLookedUp][kRows]) const {
    __m512i sums[kRows][4];
    NIBBLE_UNROLL for (int q = 0; q < 4; ++q) {
      ValueQuarter cells;
      if (panel == kept_panel_) {
        NIBBLE_UNROLL for (int c = 0; c < 4; ++c) cells[c] = kept_[q][c];
      } else {
        LookUpQuarter(panel, q, cells);
      }
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        sums[r][q] = _mm512_setzero_si512();
        NIBBLE_UNROLL for (int c = 0; c < 4; ++c) {
          sums[r][q] = AddByteProducts(sums[r][q], weights.Get(first_row + r, c), cells[c]);
        }
      }
    }
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      const __m512i half01 = AddHalves(sums[r][0], sums[r][1]), half23 = AddHalves(sums[r][2], sums[r][3]);
      dots[0][r].v[0].raw = _mm512_shuffle_i32x4(half01, half23, 0x88);
      dots[1][r].v[0].raw = _mm512_shuffle_i32x4(half01, half23, 0xDD);
    }
  }

 private:
  // Of a and of b the sums over each page's 256 bits.
  static HWY_INLINE __m512i AddHalves(__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
  }

  HWY_INLINE void LookUpQuarter(int panel, int q, ValueQuarter& cells) const {
    __m512i row[4];
    codes_.LookUp(tables_, 16 * panel + 4 * q, row);
    const __m512i low01 = _mm512_unpacklo_epi32(row[0], row[1]), high01 = _mm512_unpackhi_epi32(row[0], row[1]);
    const __m512i low23 = _mm512_unpacklo_epi32(row[2], row[3]), high23 = _mm512_unpackhi_epi32(row[2], row[3]);
    cells[0] = _mm512_unpacklo_epi64(low01, low23), cells[1] = _mm512_unpackhi_epi64(low01, low23);
    cells[2] = _mm512_unpacklo_epi64(high01, high23), cells[3] = _mm512_unpackhi_epi64(high01, high23);
  }

  const HeadTables& tables_;
  CodeVectors codes_;
  int kept_panel_ = -1;
  ValueQuarter kept_[4];
};

#else

class KeyPages {
 public:
  KeyPages(const HeadTables& tables, const PageCodes& codes)
      : folds_(KeyFolds(tables)), panel_stride_(tables.padded * 16) {
    for (int p = 0; p < kPagesLookedUp; ++p)
      FillKeyCells(tables, codes[p], panel_stride_, cells_ + p * 2 * panel_stride_);
  }

  // Widens what Dots would widen at every call.
  HWY_INLINE void Keep() {
    WidenCells(cells_, kPagesLookedUp * 2 * panel_stride_, kept_);
    is_kept_ = true;
  }

  // dots[p][r][half] = the products of row r with sixteen tokens of page p.
  template <int kRows>
  HWY_INLINE void Dots(const QueryRows& x, I16 (&dots)[kPagesLookedUp][kRows][2]) const {
    for (int p = 0; p < kPagesLookedUp; ++p) {
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
  HWY_ALIGN int8_t cells_[kPagesLookedUp * kMaxCoupledHeadDim * kPageTokens];
  HWY_ALIGN int16_t kept_[kPagesLookedUp * kMaxCoupledHeadDim * kPageTokens];
};

// Weights of a block of rows over some pages.
class WeightRows {
 public:
  HWY_INLINE void Set(int row, const I16 (&weights)[2 * kPagesLookedUp]) {
    for (int i = 0; i < 2 * kPagesLookedUp; ++i) StoreNarrowed(weights[i], rows_[i / 2][row] + i % 2 * 16);
  }
  HWY_INLINE const int16_t* Get(int page, int row) const { return rows_[page][row]; }

 private:
  HWY_ALIGN int16_t rows_[kPagesLookedUp][kBlockRows][kPageTokens];
};

class ValuePages {
 public:
  ValuePages(const HeadTables& tables, const PageCodes& codes) {
    for (int p = 0; p < kPagesLookedUp; ++p) FillValueCells(tables, codes[p], cells_[p]);
  }

  HWY_INLINE void Keep(int /*panel*/) {}  // they are

  // dots[p][r] = the products of row r of weights, `first_row` and on, with sixteen coefficients in page p.
  template <int kRows>
  HWY_INLINE void Dots(int panel, const WeightRows& weights, int first_row, I16 (&dots)[kPagesLookedUp][kRows]) const {
    for (int p = 0; p < kPagesLookedUp; ++p) {
      I16 of_panel[kRows][1];
      PairDots<kRows, 1>(cells_[p] + panel * 16 * kPageTokens, 0, kPageTokens / 2, weights.Get(p, first_row),
                         kPageTokens, of_panel);
      for (int r = 0; r < kRows; ++r) dots[p][r] = of_panel[r][0];
    }
  }

 private:
  HWY_ALIGN int16_t cells_[kPagesLookedUp][kMaxCoupledHeadDim * kPageTokens];  // as FillValueCells has them
};

#endif

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_COUPLED_PAGES_INL_H_
