// Cells for the targets that multiply pairs of int16: what a page's codes stand for, laid out as PairDots
// (coupled_operands-inl.h) takes it. A look-up is a load of one number; with AVX2 a mirrored codebook is four shuffles
// for 32 tokens.
//
// Those of keys are bytes, which PairDots widens as it loads them: where few rows meet a page, storing them wide costs
// more than that. Those of values are int16, since bytes gained nothing there.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_CODECS_COUPLED_CELLS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_CODECS_COUPLED_CELLS_INL_H_
#undef NIBBLE_KVCACHE_CODECS_COUPLED_CELLS_INL_H_
#else
#define NIBBLE_KVCACHE_CODECS_COUPLED_CELLS_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "kvcache/codecs/coupled_operands-inl.h"
#include "kvcache/codecs/coupled_tables.h"
#include "kvcache/simd/vec16-inl.h"

#if HWY_TARGET != HWY_AVX3_DL
HWY_BEFORE_NAMESPACE();
namespace nibble {
namespace kv {
namespace HWY_NAMESPACE {

// The codes of coefficient j's group, of one page.
HWY_INLINE const uint8_t* GroupOf(const HeadTables& tables, const uint8_t* codes, int j) {
  return codes + tables.code_at.data[j] / (kCodeVector / kPageTokens);
}

// visit(coefficient, number_of(token's place)) for the coefficients from `first` to `end`; those that fill up a panel
// stand for 0.
template <typename Visit>
HWY_INLINE void ForEachCoefficient(const HeadTables& tables, const uint8_t* codes, int first, int end,
                                   const Visit& visit) {
  for (int j = first; j < end; ++j) {
    const uint8_t *table = tables.centroids.data.get() + j * tables.entries, *of_group = GroupOf(tables, codes, j);
    const int offset = tables.centroid_offset;
    if (tables.mirrored()) {
      visit(j, [=](int place) {
        const uint8_t code = of_group[place];
        const int sign = -int{IsTurned(code, j)}, number = static_cast<int8_t>(table[code % kMirroredEntries] - offset);
        return static_cast<int8_t>((number ^ sign) - sign);
      });
    } else {
      visit(j, [=](int place) { return static_cast<int8_t>(table[of_group[place]] - offset); });
    }
  }
}

#if HWY_TARGET == HWY_AVX2

// Coefficient j of 32 tokens, in the order of their codes.
HWY_INLINE __m256i LookUpMirrored(const HeadTables& tables, const uint8_t* codes, int j) {
  const __m256i code = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(GroupOf(tables, codes, j)));
  const auto* parts = reinterpret_cast<const __m128i*>(tables.centroids.data.get() + j * kMirroredEntries);
  const __m256i entry = _mm256_and_si256(code, _mm256_set1_epi8(0x0F));
  const auto in_part = [&](int part)
                           HWY_ATTR { return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(parts[part]), entry); };
  // Bits 4 and 5 choose the part; a blend looks at the highest bit of each byte.
  const __m256i bit4 = _mm256_slli_epi16(code, 3), bit5 = _mm256_slli_epi16(code, 2);
  const __m256i low = _mm256_blendv_epi8(in_part(0), in_part(1), bit4);
  const __m256i high = _mm256_blendv_epi8(in_part(2), in_part(3), bit4);
  const __m256i offset = _mm256_set1_epi8(static_cast<char>(tables.centroid_offset));
  const __m256i number = _mm256_sub_epi8(_mm256_blendv_epi8(low, high, bit5), offset);
  // Bit 6 or 7 to the highest place; never 0, which would make the number 0.
  const __m256i sign = j % 2 == 0 ? _mm256_add_epi8(code, code) : code;
  return _mm256_sign_epi8(number, _mm256_or_si256(sign, _mm256_set1_epi8(1)));
}

// Of keys the lane of token t, in both panels together.
constexpr int KeyLane(int t) { return t % 8 / 4 * 16 + t % 16 / 8 * 8 + t / 16 * 4 + t % 4; }

// Lanes of dot products to tokens.
HWY_INLINE void ToTokens(const I16 (&lanes)[2], I16 (&tokens)[2]) {
  NIBBLE_UNROLL for (int i = 0; i < 2; ++i) {
    tokens[0].v[i].raw = _mm256_permute2x128_si256(lanes[0].v[i].raw, lanes[1].v[i].raw, 0x20);
    tokens[1].v[i].raw = _mm256_permute2x128_si256(lanes[0].v[i].raw, lanes[1].v[i].raw, 0x31);
  }
}

inline void ShuffleKeyCells(const HeadTables& tables, const uint8_t* codes, int64_t panel_stride, int8_t* cells) {
  for (int j = 0; j < tables.padded; j += 2, cells += 32) {
    const __m256i a = LookUpMirrored(tables, codes, j), b = LookUpMirrored(tables, codes, j + 1);
    _mm256_store_si256(reinterpret_cast<__m256i*>(cells), _mm256_unpacklo_epi8(a, b));
    _mm256_store_si256(reinterpret_cast<__m256i*>(cells + panel_stride), _mm256_unpackhi_epi8(a, b));
  }
}

inline void ShuffleValueCells(const HeadTables& tables, const uint8_t* codes, int panel, int16_t* cells) {
  __m256i rows[16];  // of words, which are two tokens of one coefficient
  for (int j = 0; j < 16; ++j) rows[j] = LookUpMirrored(tables, codes, 16 * panel + j);
  // Four times every other word of rows i and i + 8: in each half, vector 2 c then has word c of the first eight
  // coefficients, and vector 2 c + 1 that of the other eight.
  for (int step = 0; step < 4; ++step) {
    __m256i next[16];
    NIBBLE_UNROLL for (int i = 0; i < 8; ++i) {
      next[2 * i] = _mm256_unpacklo_epi16(rows[i], rows[i + 8]);
      next[2 * i + 1] = _mm256_unpackhi_epi16(rows[i], rows[i + 8]);
    }
    NIBBLE_UNROLL for (int i = 0; i < 16; ++i) rows[i] = next[i];
  }
  auto* out = reinterpret_cast<__m256i*>(cells);
  NIBBLE_UNROLL for (int i = 0; i < 16; ++i) {
    _mm256_store_si256(out + i, _mm256_cvtepi8_epi16(_mm256_castsi256_si128(rows[i])));
    _mm256_store_si256(out + 16 + i, _mm256_cvtepi8_epi16(_mm256_extracti128_si256(rows[i], 1)));
  }
}

// `count` is a multiple of 16.
inline void WidenCells(const int8_t* from, int64_t count, int16_t* to) {
  for (int64_t i = 0; i < count; i += 16) _mm256_store_si256(reinterpret_cast<__m256i*>(to + i), LoadPairs(from + i));
}

#else

constexpr int KeyLane(int t) { return t; }

HWY_INLINE void ToTokens(const I16 (&lanes)[2], I16 (&tokens)[2]) { tokens[0] = lanes[0], tokens[1] = lanes[1]; }

inline void WidenCells(const int8_t* from, int64_t count, int16_t* to) { std::copy_n(from, count, to); }

#endif

// cells: [panel of sixteen lanes, `panel_stride` apart][fold of coefficients][16][kFold], of token t at KeyLane(t)
inline void FillKeyCells(const HeadTables& tables, const uint8_t* codes, int64_t panel_stride, int8_t* cells) {
#if HWY_TARGET == HWY_AVX2
  if (tables.mirrored()) return ShuffleKeyCells(tables, codes, panel_stride, cells);
#endif
  ForEachCoefficient(tables, codes, 0, tables.padded, [&](int j, const auto& number_of) {
    int8_t* column = cells + j / kFold * 16 * kFold + j % kFold;
    const auto set = [&](int t) {
      column[KeyLane(t) / 16 * panel_stride + KeyLane(t) % 16 * kFold] = number_of(KeyPlace(t));
    };
    NIBBLE_UNROLL for (int t = 0; t < 16; ++t) set(t), set(16 + t);
  });
}

// cells: [fold of tokens][16 coefficients of the panel][kFold]
inline void FillValueCells(const HeadTables& tables, const uint8_t* codes, int panel, int16_t* cells) {
#if HWY_TARGET == HWY_AVX2
  if (tables.mirrored()) return ShuffleValueCells(tables, codes, panel, cells);
#endif
  ForEachCoefficient(tables, codes, 16 * panel, 16 * panel + 16, [&](int j, const auto& number_of) {
    int16_t* column = cells + j % 16 * kFold;
    const auto set = [&](int t) { column[t / kFold * 16 * kFold + t % kFold] = number_of(t); };
    NIBBLE_UNROLL for (int t = 0; t < 16; ++t) set(t), set(16 + t);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();
#endif  // target

#endif  // NIBBLE_KVCACHE_CODECS_COUPLED_CELLS_INL_H_
