// Codes looked up by permutations of bytes, for 64 tokens at once, where there are such.
//
// On Zen 4 a permutation of one register or of two, and a dot product, is one a cycle. What a sign costs beside them
// is why a mirrored codebook is two registers, the entries and the entries turned: taking the sign bits out to a mask
// occupies the units of dot products.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_CODECS_COUPLED_LOOKUPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_CODECS_COUPLED_LOOKUPS_INL_H_
#undef NIBBLE_KVCACHE_CODECS_COUPLED_LOOKUPS_INL_H_
#else
#define NIBBLE_KVCACHE_CODECS_COUPLED_LOOKUPS_INL_H_
#endif

#include <cstdint>

#include "kvcache/codecs/coupled_tables.h"
#include "kvcache/simd/vec16-inl.h"

#if HWY_TARGET == HWY_AVX3_DL
NIBBLE_BEFORE_VNNI_NAMESPACE();
namespace nibble {
namespace kv {
namespace HWY_NAMESPACE {

// HeadTables::code_at of four coefficients.
struct FourCodesAt {
  HWY_INLINE FourCodesAt(const HeadTables& tables, int first) {
    const uint16_t* code_at = tables.code_at.data.get() + first;
    asm("" : "+r"(code_at));  // or the compiler keeps an address for each coefficient, and spills them
    NIBBLE_UNROLL for (int j = 0; j < 4; ++j) of[j] = code_at[j];
  }

  int64_t of[4];
};

// The codebooks of four coefficients.
template <bool kMirrored>
class FourCodebooks;

// Mirrored ones in registers: a permutation of two registers heeds 7 bits of an index, of which the highest is the
// sign.
template <>
class FourCodebooks<true> {
 public:
  // `first` is even.
  HWY_INLINE FourCodebooks(const HeadTables& tables, int first) : code_at_(tables, first) {
    const uint8_t* table = tables.centroids.data.get() + int64_t{first} * kMirroredEntries;
    NIBBLE_UNROLL for (int j = 0; j < 4; ++j) {
      entries_[j] = _mm512_load_si512(table + j * kMirroredEntries);
      // Modulo 256 that is right of keys too, which are offset by 128.
      turned_[j] = _mm512_sub_epi8(_mm512_setzero_si512(), entries_[j]);
    }
  }

  int64_t code_at(int j) const { return code_at_.of[j]; }
  HWY_INLINE __m512i LookUp(int j, __m512i code) const {
    // Of even coefficients bit 6 is the sign, of odd ones bit 7: here they change places.
    constexpr int64_t kBits6And7 = 0x0102040810208040;
    if (j % 2 != 0) code = _mm512_gf2p8affine_epi64_epi8(code, _mm512_set1_epi64(kBits6And7), 0);
    return _mm512_permutex2var_epi8(entries_[j], code, turned_[j]);
  }

 private:
  const FourCodesAt code_at_;
  __m512i entries_[4], turned_[4];
};

// Others are read where they lie: a permutation looks up 7 bits of a code in half a table.
template <>
class FourCodebooks<false> {
 public:
  HWY_INLINE FourCodebooks(const HeadTables& tables, int first)
      : code_at_(tables, first), tables_(tables.centroids.data.get() + int64_t{first} * kCentroids) {}

  int64_t code_at(int j) const { return code_at_.of[j]; }
  HWY_INLINE __m512i LookUp(int j, __m512i code) const {
    const auto* parts = reinterpret_cast<const __m512i*>(tables_ + j * kCentroids);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(code), _mm512_permutex2var_epi8(parts[0], code, parts[1]),
                                  _mm512_permutex2var_epi8(parts[2], code, parts[3]));
  }

 private:
  const FourCodesAt code_at_;
  const uint8_t* const tables_;
};

// The codes of all groups in some pairs of pages, 64 tokens to a vector.
template <int kPairs>
class CodeVectors {
 public:
  // Of each group eight codes of one page of a pair and eight of the other in turn, or one page after the other.
  template <bool kInTurn>
  HWY_INLINE void Load(const HeadTables& tables, int pair, const uint8_t* a, const uint8_t* b) {
    const __m512i in_turn = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    const int groups = static_cast<int>(tables.group_ends.size());
    uint8_t* out = codes_ + pair * kCodeVector;
    for (int g = 0; g < groups; ++g, out += kPairs * kCodeVector) {
      const auto* low = reinterpret_cast<const __m256i*>(a) + g;
      const auto* high = reinterpret_cast<const __m256i*>(b) + g;
      __m512i code = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(low)), _mm256_loadu_si256(high), 1);
      if constexpr (kInTurn) code = _mm512_permutexvar_epi64(in_turn, code);
      _mm512_store_si512(out, code);
    }
  }

  // found[j] = the j-th of the coefficients of `books` in the centroid of each token of a pair.
  template <bool kMirrored>
  HWY_INLINE void LookUp(const FourCodebooks<kMirrored>& books, int pair, __m512i (&found)[4]) const {
    const uint8_t* codes = codes_ + pair * kCodeVector;
    NIBBLE_UNROLL for (int j = 0; j < 4; ++j) {
      found[j] = books.LookUp(j, _mm512_load_si512(codes + books.code_at(j) * kPairs));
    }
  }

 private:
  // [groups][kPairs] vectors.
  HWY_ALIGN uint8_t codes_[kMaxCoupledHeadDim * kPairs * kCodeVector];
};

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();
#endif  // target

#endif  // NIBBLE_KVCACHE_CODECS_COUPLED_LOOKUPS_INL_H_
