// A page's codes looked up in their codebooks, and the products of what was found with rows of integers.
//
// What is looked up lies in cells (coupled_operands-inl.h). Of keys a lane is a token and holds coefficients, of values
// a lane is a coefficient and holds tokens. Where bytes are multiplied a look-up costs two permutations for 64 tokens,
// and cells need not leave registers: those of values never do, those of keys are kept in memory where many rows meet
// them. Elsewhere a look-up is a load of one number, and cells are made once, in memory.
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
inline constexpr int kPagesAtOnce = 2;

// The codes of one head's keys or values in some pages.
using PageCodes = std::array<const uint8_t*, kPagesAtOnce>;

HWY_INLINE int KeyFolds(const HeadTables& tables) { return (tables.coefficients + kFold - 1) / kFold; }

// The operands of some rows against keys, as StoreKeyOperands leaves them: int16, or two planes of bytes.
struct KeyOperands {
  const uint8_t* data;  // rows `stride` apart
  int64_t stride;
  int64_t plane_bytes;
};

#if HWY_TARGET == HWY_AVX3_DL

// The codes of all groups in two pages, 64 tokens to a vector.
struct CodeVectors {
  HWY_ALIGN uint8_t codes[kMaxCoupledHeadDim * kCodeVector];

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
      _mm512_store_si512(codes + g * kCodeVector, both);
    }
  }

  // Looks up kCount coefficients, `first` and on, of each token's centroid. A permutation looks up 7 bits of a code in
  // half a table.
  template <int kCount>
  HWY_INLINE void LookUp(const uint8_t* centroids, const uint16_t* code_at, int first, __m512i (&found)[kCount]) const {
    NIBBLE_UNROLL for (int j = 0; j < kCount; ++j) {
      const __m512i code = _mm512_load_si512(codes + code_at[first + j]);
      const auto* parts = reinterpret_cast<const __m512i*>(centroids + (first + j) * kCentroids);
      found[j] = _mm512_mask_blend_epi8(_mm512_movepi8_mask(code), _mm512_permutex2var_epi8(parts[0], code, parts[1]),
                                        _mm512_permutex2var_epi8(parts[2], code, parts[3]));
    }
  }
};

class KeyPages {
 public:
  HWY_INLINE KeyPages(const HeadTables& tables, const PageCodes& codes)
      : folds_(KeyFolds(tables)), centroids_(tables.centroids.data.get()), code_at_(tables.code_at.data.get()) {
    codes_.Load<true>(tables, codes);
  }

  // Looks up what Dots would look up at every call.
  HWY_INLINE void Keep() {
    for (int k = 0; k < folds_; ++k) LookUpCells(k, kept_[k]);
    is_kept_ = true;
  }

  // dots[p][r][half] = the products of row r with sixteen tokens of page p, less what the cells' offset adds.
  template <int kRows>
  HWY_INLINE void Dots(const KeyOperands& x, I16 (&dots)[kPagesAtOnce][kRows][2]) const {
    __m512i upper[kRows][kPagesAtOnce][2], lower[kRows][kPagesAtOnce][2];
    NIBBLE_UNROLL for (int i = 0; i < kRows * kPagesAtOnce * 2; ++i) {
      upper[i / 4][i / 2 % 2][i % 2] = lower[i / 4][i / 2 % 2][i % 2] = _mm512_setzero_si512();
    }
    for (int k = 0; k < folds_; ++k) {
      __m512i cells[kPagesAtOnce][2];
      if (is_kept_) {
        NIBBLE_UNROLL for (int i = 0; i < 4; ++i) cells[i / 2][i % 2] = kept_[k][i / 2][i % 2];
      } else {
        LookUpCells(k, cells);
      }
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const __m512i high = _mm512_set1_epi32(LoadFold(x.data + r * x.stride + 4 * k));
        NIBBLE_UNROLL for (int i = 0; i < 4; ++i) {
          upper[r][i / 2][i % 2] = AddByteProducts(upper[r][i / 2][i % 2], cells[i / 2][i % 2], high);
        }
        const __m512i low = _mm512_set1_epi32(LoadFold(x.data + r * x.stride + x.plane_bytes + 4 * k));
        NIBBLE_UNROLL for (int i = 0; i < 4; ++i) {
          lower[r][i / 2][i % 2] = AddByteProducts(lower[r][i / 2][i % 2], cells[i / 2][i % 2], low);
        }
      }
    }
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      NIBBLE_UNROLL for (int i = 0; i < 4; ++i) {
        dots[i / 2][r][i % 2].v[0].raw =
            _mm512_add_epi32(lower[r][i / 2][i % 2], _mm512_slli_epi32(upper[r][i / 2][i % 2], 8));
      }
    }
  }

 private:
  // Four coefficients of 64 tokens: tokens lie in the order of KeyPlace, 8 of one page and 8 of the other in turn.
  HWY_INLINE void LookUpCells(int k, __m512i (&cells)[kPagesAtOnce][2]) const {
    __m512i four[4];
    codes_.LookUp<4>(centroids_, code_at_, 4 * k, four);
    const __m512i low01 = _mm512_unpacklo_epi8(four[0], four[1]), high01 = _mm512_unpackhi_epi8(four[0], four[1]);
    const __m512i low23 = _mm512_unpacklo_epi8(four[2], four[3]), high23 = _mm512_unpackhi_epi8(four[2], four[3]);
    cells[0][0] = _mm512_unpacklo_epi16(low01, low23), cells[0][1] = _mm512_unpackhi_epi16(low01, low23);
    cells[1][0] = _mm512_unpacklo_epi16(high01, high23), cells[1][1] = _mm512_unpackhi_epi16(high01, high23);
  }

  const int folds_;
  const uint8_t* const centroids_;
  const uint16_t* const code_at_;
  CodeVectors codes_;
  bool is_kept_ = false;
  __m512i kept_[kMaxCoupledHeadDim / kFold][kPagesAtOnce][2];
};

// Sixteen coefficients of the values of some pages.
struct ValuePanel {
  __m512i cells[kPagesAtOnce][kPageTokens / 4];

  // dots[r] = the products of row r of weights, bytes, with a page's sixteen coefficients.
  template <int kRows>
  HWY_INLINE void Dots(int page, const uint8_t* weights, I16 (&dots)[kRows]) const {
    __m512i sums[kRows];
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) sums[r] = _mm512_setzero_si512();
    NIBBLE_UNROLL for (int k = 0; k < kPageTokens / 4; ++k) {
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const __m512i four = _mm512_set1_epi32(LoadFold(weights + r * kPageTokens + 4 * k));
        sums[r] = AddByteProducts(sums[r], four, cells[page][k]);
      }
    }
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) dots[r].v[0].raw = sums[r];
  }
};

class ValuePages {
 public:
  HWY_INLINE ValuePages(const HeadTables& tables, const PageCodes& codes)
      : centroids_(tables.centroids.data.get()), code_at_(tables.code_at.data.get()) {
    codes_.Load<false>(tables, codes);
  }

  // A transposition of sixteen times sixteen blocks of four tokens.
  HWY_INLINE ValuePanel Panel(int panel) const {
    __m512i found[16];
    codes_.LookUp<16>(centroids_, code_at_, 16 * panel, found);
    __m512i t[4][4];  // [coefficients 4 q .. 4 q + 3][c]: blocks c, 4 + c, 8 + c, 12 + c
    NIBBLE_UNROLL for (int q = 0; q < 4; ++q) {
      const __m512i* row = found + 4 * q;
      const __m512i low01 = _mm512_unpacklo_epi32(row[0], row[1]), high01 = _mm512_unpackhi_epi32(row[0], row[1]);
      const __m512i low23 = _mm512_unpacklo_epi32(row[2], row[3]), high23 = _mm512_unpackhi_epi32(row[2], row[3]);
      t[q][0] = _mm512_unpacklo_epi64(low01, low23), t[q][1] = _mm512_unpackhi_epi64(low01, low23);
      t[q][2] = _mm512_unpacklo_epi64(high01, high23), t[q][3] = _mm512_unpackhi_epi64(high01, high23);
    }
    ValuePanel out;
    NIBBLE_UNROLL for (int c = 0; c < 4; ++c) {
      const __m512i even0 = _mm512_shuffle_i32x4(t[0][c], t[1][c], 0x88);
      const __m512i even1 = _mm512_shuffle_i32x4(t[2][c], t[3][c], 0x88);
      const __m512i odd0 = _mm512_shuffle_i32x4(t[0][c], t[1][c], 0xDD);
      const __m512i odd1 = _mm512_shuffle_i32x4(t[2][c], t[3][c], 0xDD);
      out.cells[0][c] = _mm512_shuffle_i32x4(even0, even1, 0x88);
      out.cells[0][4 + c] = _mm512_shuffle_i32x4(odd0, odd1, 0x88);
      out.cells[1][c] = _mm512_shuffle_i32x4(even0, even1, 0xDD);
      out.cells[1][4 + c] = _mm512_shuffle_i32x4(odd0, odd1, 0xDD);
    }
    return out;
  }

 private:
  const uint8_t* const centroids_;
  const uint16_t* const code_at_;
  CodeVectors codes_;
};

#else

// visit(coefficient, its table, its group's codes), for those that fill up a panel too: their tables hold zeros.
template <typename Visit>
HWY_INLINE void ForEachCoefficient(const HeadTables& tables, const uint8_t* codes, const Visit& visit) {
  for (int j = 0; j < tables.padded; ++j) {
    visit(j, tables.centroids.data.get() + j * kCentroids, codes + tables.code_at.data[j] / kPagesAtOnce);
  }
}

class KeyPages {
 public:
  KeyPages(const HeadTables& tables, const PageCodes& codes)
      : folds_(KeyFolds(tables)), half_page_(tables.padded * 16) {
    for (int p = 0; p < kPagesAtOnce; ++p) {
      ForEachCoefficient(tables, codes[p], [&](int j, const uint8_t* table, const uint8_t* of_group) {
        int16_t* low = cells_ + p * 2 * half_page_ + j / kFold * 16 * kFold + j % kFold;
        int16_t* high = low + half_page_;
        NIBBLE_UNROLL for (int t = 0; t < 16; ++t) {
          low[t * kFold] = static_cast<int16_t>(table[of_group[KeyPlace(t)]] - 128);
          high[t * kFold] = static_cast<int16_t>(table[of_group[KeyPlace(16 + t)]] - 128);
        }
      });
    }
  }

  HWY_INLINE void Keep() {}  // they are

  // dots[p][r][half] = the products of row r with sixteen tokens of page p.
  template <int kRows>
  HWY_INLINE void Dots(const KeyOperands& x, I16 (&dots)[kPagesAtOnce][kRows][2]) const {
    for (int p = 0; p < kPagesAtOnce; ++p) {
      PairDots<kRows, 2>(cells_ + p * 2 * half_page_, half_page_, folds_, reinterpret_cast<const int16_t*>(x.data),
                         x.stride / 2, dots[p]);
    }
  }

 private:
  const int folds_, half_page_;
  HWY_ALIGN int16_t cells_[kPagesAtOnce * kMaxCoupledHeadDim * kPageTokens];  // [page][half][fold][token][kFold]
};

// Sixteen coefficients of the values of some pages.
struct ValuePanel {
  const int16_t* cells[kPagesAtOnce];

  // dots[r] = the products of row r of weights with a page's sixteen coefficients.
  template <int kRows>
  HWY_INLINE void Dots(int page, const int16_t* weights, I16 (&dots)[kRows]) const {
    I16 of_panel[kRows][1];
    PairDots<kRows, 1>(cells[page], 0, kPageTokens / 2, weights, kPageTokens, of_panel);
    for (int r = 0; r < kRows; ++r) dots[r] = of_panel[r][0];
  }
};

class ValuePages {
 public:
  ValuePages(const HeadTables& tables, const PageCodes& codes) {
    for (int p = 0; p < kPagesAtOnce; ++p) {
      ForEachCoefficient(tables, codes[p], [&](int j, const uint8_t* table, const uint8_t* of_group) {
        int16_t* column = cells_[p] + (j / 16 * kPageTokens * 16 + j % 16 * kFold);
        int16_t* second_half = column + 16 * 16;
        NIBBLE_UNROLL for (int t = 0; t < 16; ++t) {
          column[t / kFold * 16 * kFold + t % kFold] = static_cast<int8_t>(table[of_group[t]]);
          second_half[t / kFold * 16 * kFold + t % kFold] = static_cast<int8_t>(table[of_group[16 + t]]);
        }
      });
    }
  }

  HWY_INLINE ValuePanel Panel(int panel) const {
    const int first = panel * 16 * kPageTokens;
    return {{cells_[0] + first, cells_[1] + first}};
  }

 private:
  // [page][coefficients / 16][fold of tokens][16 coefficients][kFold]
  HWY_ALIGN int16_t cells_[kPagesAtOnce][kMaxCoupledHeadDim * kPageTokens];
};

#endif

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_COUPLED_PAGES_INL_H_
