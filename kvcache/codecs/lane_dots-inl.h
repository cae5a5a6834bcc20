// Integer dot products of packed codes (affine_codec.h) and operands (operands-inl.h), 32 lanes at a time: sums over n
// of code[n][lane] * x[n]. Exact, so every target gives the same integers.
//
// Codes of keys are unsigned and multiply signed operands; codes of values are signed (two's complement of kBits) and
// multiply unsigned operands.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_CODECS_LANE_DOTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_CODECS_LANE_DOTS_INL_H_
#undef NIBBLE_KVCACHE_CODECS_LANE_DOTS_INL_H_
#else
#define NIBBLE_KVCACHE_CODECS_LANE_DOTS_INL_H_
#endif

#include <cstdint>
#include <cstring>

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
template <bool kWide>
inline constexpr int kMaxRows = kWide ? 3 : 6;  // what the registers hold
#else
template <bool kWide>
inline constexpr int kMaxRows = 3;
#endif

// Pages that kernels take together.
inline constexpr int kPagesAtOnce = 4;

// Rows of prepared queries, and where their scores go.
struct ScoreRows {
  const float* queries;
  float* scores;
  int64_t score_stride;
};

#if HWY_TARGET != HWY_SCALAR
HWY_INLINE int32_t LoadFour(const uint8_t* x) {
  int32_t four;
  std::memcpy(&four, x, 4);
  return four;
}
#endif

// LaneDots: dots[r][v] += the products of row r with lanes [16 * v, 16 * v + 16), modulo 2^32. Blocks of codes are
// `block_bytes` apart. Where kDotUnit is not 1, signed products come out divided by it.

#if HWY_TARGET == HWY_AVX3_DL

template <int kBits, bool kSignedCodes>
inline constexpr float kDotUnit = kSignedCodes ? 1.0f / (1 << (8 - kBits)) : 1.0f;

// Field f of all bytes: unsigned codes at the bottom of their byte, signed ones at the top, where the sign is in place.
template <int kBits, bool kSignedCodes, int kField>
HWY_INLINE __m512i Field(__m512i packed) {
  if constexpr (kBits == 8) return packed;
  constexpr int kTo = kSignedCodes ? 8 - kBits : 0;
  return BitsOfBytes<kBits * kField, kBits, kTo>(packed);
}

template <int kBits, bool kSignedCodes>
HWY_INLINE void LoadFields(const uint8_t* codes, __m512i* fields) {
  const __m512i packed = _mm512_loadu_si512(codes);
  fields[0] = Field<kBits, kSignedCodes, 0>(packed);
  if constexpr (kBits <= 4) fields[1] = Field<kBits, kSignedCodes, 1>(packed);
  if constexpr (kBits == 2) fields[2] = Field<kBits, kSignedCodes, 2>(packed);
  if constexpr (kBits == 2) fields[3] = Field<kBits, kSignedCodes, 3>(packed);
}

// The instruction multiplies unsigned by signed bytes, and adds four products without saturation.
template <bool kSignedCodes>
HWY_INLINE __m512i AddProducts(__m512i sum, __m512i codes, const uint8_t* four) {
  if constexpr (kSignedCodes) return AddByteProducts(sum, _mm512_set1_epi32(LoadFour(four)), codes);
  return AddByteProducts(sum, codes, four);
}

template <int kBits, bool kSignedCodes, bool kWide, int kRows>
HWY_INLINE void LaneDots(const uint8_t* codes, int64_t block_bytes, int blocks, const Operands& x,
                         I16 (&dots)[kRows][2]) {
  constexpr int kFields = 8 / kBits;
  __m512i upper[kRows][2];
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) upper[r][0] = upper[r][1] = _mm512_setzero_si512();
  for (int block = 0; block < blocks; ++block) {
    __m512i fields[2][kFields];
    LoadFields<kBits, kSignedCodes>(codes + block * block_bytes, fields[0]);
    LoadFields<kBits, kSignedCodes>(codes + block * block_bytes + 64, fields[1]);
    NIBBLE_UNROLL for (int f = 0; f < kFields; ++f) {
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const uint8_t* four = x.row(r) + 4 * (block * kFields + f);
        const uint8_t* lower = four + (kWide ? x.plane_bytes : 0);
        NIBBLE_UNROLL for (int v = 0; v < 2; ++v) {
          __m512i& dot = dots[r][v].v[0].raw;
          dot = AddProducts<kSignedCodes>(dot, fields[v][f], lower);
          if constexpr (kWide) {
            upper[r][v] = AddProducts<kSignedCodes>(upper[r][v], fields[v][f], four);
          }
        }
      }
    }
  }
  if constexpr (kWide) {
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      NIBBLE_UNROLL for (int v = 0; v < 2; ++v) {
        __m512i& dot = dots[r][v].v[0].raw;
        dot = _mm512_add_epi32(dot, _mm512_slli_epi32(upper[r][v], 8));
      }
    }
  }
}

#elif HWY_TARGET == HWY_AVX2

template <int kBits, bool kSignedCodes>
inline constexpr float kDotUnit = 1.0f;

template <int kBits, bool kSignedCodes, int kField>
HWY_INLINE __m256i Field(__m256i packed) {
  if constexpr (kBits == 8) return packed;
  const __m256i code = _mm256_and_si256(_mm256_srli_epi16(packed, kBits * kField), _mm256_set1_epi8((1 << kBits) - 1));
  if constexpr (!kSignedCodes) return code;
  const __m256i sign = _mm256_set1_epi8(1 << (kBits == 8 ? 0 : kBits - 1));
  return _mm256_sub_epi8(_mm256_xor_si256(code, sign), sign);
}

template <int kBits, bool kSignedCodes>
HWY_INLINE void LoadFields(const uint8_t* codes, __m256i* fields) {
  const __m256i packed = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
  fields[0] = Field<kBits, kSignedCodes, 0>(packed);
  if constexpr (kBits <= 4) fields[1] = Field<kBits, kSignedCodes, 1>(packed);
  if constexpr (kBits == 2) fields[2] = Field<kBits, kSignedCodes, 2>(packed);
  if constexpr (kBits == 2) fields[3] = Field<kBits, kSignedCodes, 3>(packed);
}

// Bytes 2 * kPair and 2 * kPair + 1 of each lane, as int16.
template <bool kSignedCodes, int kPair>
HWY_INLINE __m256i Widen(__m256i codes) {
  constexpr int kA = 2 * kPair, kB = kA + 1;
  if constexpr (kSignedCodes) {
    const __m128i high =
        _mm_setr_epi8(-1, kA, -1, kB, -1, kA + 4, -1, kB + 4, -1, kA + 8, -1, kB + 8, -1, kA + 12, -1, kB + 12);
    return _mm256_srai_epi16(_mm256_shuffle_epi8(codes, _mm256_broadcastsi128_si256(high)), 8);
  } else {
    const __m128i low =
        _mm_setr_epi8(kA, -1, kB, -1, kA + 4, -1, kB + 4, -1, kA + 8, -1, kB + 8, -1, kA + 12, -1, kB + 12, -1);
    return _mm256_shuffle_epi8(codes, _mm256_broadcastsi128_si256(low));
  }
}

// kVectors * 8 lanes. Wide: products of int16, pairs added in int32.
template <int kBits, bool kSignedCodes, int kRows>
HWY_INLINE void WideBlock(const uint8_t* codes, const Operands& x, int first, __m256i* sums) {
  constexpr int kFields = 8 / kBits;
  __m256i fields[kFields];
  LoadFields<kBits, kSignedCodes>(codes, fields);
  NIBBLE_UNROLL for (int f = 0; f < kFields; ++f) {
    const __m256i front = Widen<kSignedCodes, 0>(fields[f]), back = Widen<kSignedCodes, 1>(fields[f]);
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      const uint8_t* four = x.row(r) + 2 * (first + 4 * f);
      sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(front, _mm256_set1_epi32(LoadFour(four))));
      sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(back, _mm256_set1_epi32(LoadFour(four + 4))));
    }
  }
}

// Narrow operands multiply codes of at most 4 bits. Nothing saturates: a pair sum is at most 2 * 15 * 127 = 3810 for
// keys and 2 * 8 * 255 = 4080 for values, and at most four of them are added, 16320, below 2^15.
template <int kBits, bool kSignedCodes, int kRows>
HWY_INLINE void NarrowBlock(const uint8_t* codes, const Operands& x, int first, __m256i* sums) {
  static_assert(kBits <= 4);
  constexpr int kFields = 8 / kBits;
  __m256i fields[kFields];
  LoadFields<kBits, kSignedCodes>(codes, fields);
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    __m256i pairs = _mm256_setzero_si256();
    NIBBLE_UNROLL for (int f = 0; f < kFields; ++f) {
      const __m256i four = _mm256_set1_epi32(LoadFour(x.row(r) + first + 4 * f));
      pairs = _mm256_add_epi16(
          pairs, kSignedCodes ? _mm256_maddubs_epi16(four, fields[f]) : _mm256_maddubs_epi16(fields[f], four));
    }
    sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
}

template <int kBits, bool kSignedCodes, bool kWide, int kRows>
HWY_INLINE void LaneDots(const uint8_t* codes, int64_t block_bytes, int blocks, const Operands& x,
                         I16 (&dots)[kRows][2]) {
  NIBBLE_UNROLL for (int eight = 0; eight < 4; ++eight) {
    __m256i sums[kRows];
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) sums[r] = dots[r][eight / 2].v[eight % 2].raw;
    for (int block = 0; block < blocks; ++block) {
      const uint8_t* at = codes + block * block_bytes + 32 * eight;
      if constexpr (kWide) {
        WideBlock<kBits, kSignedCodes, kRows>(at, x, block * (32 / kBits), sums);
      } else {
        NarrowBlock<kBits, kSignedCodes, kRows>(at, x, block * (32 / kBits), sums);
      }
    }
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) dots[r][eight / 2].v[eight % 2].raw = sums[r];
  }
}

#else

template <int kBits, bool kSignedCodes>
inline constexpr float kDotUnit = 1.0f;

// The `n`th operand of a row.
template <bool kSigned, bool kWide>
HWY_INLINE int32_t OperandAt(const uint8_t* row, int n) {
  if constexpr (!kWide) return kSigned ? static_cast<int8_t>(row[n]) : row[n];
  int16_t x;
  std::memcpy(&x, row + 2 * n, sizeof(x));
  return x;
}

template <int kBits, bool kSignedCodes>
HWY_INLINE int32_t Code(uint8_t packed, int field) {
  const int32_t code = (packed >> (kBits * field)) & ((1 << kBits) - 1);
  constexpr int kSign = 1 << (kBits - 1);
  return kSignedCodes ? (code ^ kSign) - kSign : code;
}

template <int kBits, bool kSignedCodes, bool kWide, int kRows>
HWY_INLINE void LaneDots(const uint8_t* codes, int64_t block_bytes, int blocks, const Operands& x,
                         I16 (&dots)[kRows][2]) {
  constexpr int kFields = 8 / kBits;
  uint32_t sums[kRows][32] = {};
  for (int block = 0; block < blocks; ++block) {
    for (int f = 0; f < kFields; ++f) {
      for (int j = 0; j < 4; ++j) {
        int32_t code[32];
        for (int lane = 0; lane < 32; ++lane) {
          code[lane] = Code<kBits, kSignedCodes>(codes[block * block_bytes + 4 * lane + j], f);
        }
        for (int r = 0; r < kRows; ++r) {
          const int32_t operand = OperandAt<!kSignedCodes, kWide>(x.row(r), 4 * (block * kFields + f) + j);
          for (int lane = 0; lane < 32; ++lane) sums[r][lane] += static_cast<uint32_t>(code[lane] * operand);
        }
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < 2; ++v) {
      int32_t lanes[16];
      std::memcpy(lanes, sums[r] + 16 * v, sizeof(lanes));
      dots[r][v] = AddInt(dots[r][v], LoadInt(lanes));
    }
  }
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_LANE_DOTS_INL_H_
