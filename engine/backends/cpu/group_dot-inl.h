// Integer dot products of one group of 32 inputs: 16 outputs, which lie in the lanes, against a few rows of int8
// activations. Exact on every target.
//
// Codes of a group, as packed_matrix.h and packed_delta.h lay them out; `x`: [rows, 32], rows `stride` apart.
// GroupDot4 / GroupDot8 / GroupDot1: dots[r] = each output's dot product with row r.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_ENGINE_BACKENDS_CPU_GROUP_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_ENGINE_BACKENDS_CPU_GROUP_DOT_INL_H_
#undef NIBBLE_ENGINE_BACKENDS_CPU_GROUP_DOT_INL_H_
#else
#define NIBBLE_ENGINE_BACKENDS_CPU_GROUP_DOT_INL_H_
#endif

#include <cstdint>
#include <cstring>
#include <utility>

#include "engine/quant/weight_groups.h"
#include "hwy/highway.h"
#include "kvcache/simd/bytes-inl.h"
#include "kvcache/simd/vec16-inl.h"

#if HWY_TARGET == HWY_AVX3_DL
NIBBLE_BEFORE_VNNI_NAMESPACE();
#else
HWY_BEFORE_NAMESPACE();
#endif
namespace nibble {
namespace engine {
namespace HWY_NAMESPACE {

using namespace nibble::simd::HWY_NAMESPACE;  // NOLINT: the vector vocabulary of this target

constexpr int kCodeBytes1 = 64;
constexpr int kCodeBytes4 = 256;
constexpr int kCodeBytes8 = 512;
#if HWY_TARGET == HWY_AVX2
HWY_INLINE int32_t LoadFour(const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, 4);
  return four;
}
#endif

#if HWY_TARGET == HWY_AVX3_DL

HWY_INLINE void Add(I16& dot, __m512i weights, const int8_t* four) {
  dot.v[0].raw = AddByteProducts(dot.v[0].raw, weights, four);
}

template <int kRows>
HWY_INLINE void GroupDot4(const uint8_t* codes, const int8_t* x, int64_t stride, const int32_t* /*biases*/,
                          int64_t /*bias_stride*/, I16* dots) {
  const __m512i low_mask = _mm512_set1_epi8(15);
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) dots[r].v[0].raw = _mm512_setzero_si512();
  NIBBLE_UNROLL for (int pair = 0; pair < 4; ++pair) {
    const __m512i packed = _mm512_loadu_si512(codes + pair * 64);
    const __m512i low = _mm512_and_si512(packed, low_mask);
    const __m512i high = BitsOfBytes<4, 4>(packed);
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      const int8_t* row = x + r * stride + pair * 8;
      Add(dots[r], low, row);
      Add(dots[r], high, row + 4);
    }
  }
}

// The instruction multiplies unsigned by signed bytes: weights are shifted to unsigned, and the bias takes the shift
// out again.
template <int kRows>
HWY_INLINE void GroupDot8(const uint8_t* codes, const int8_t* x, int64_t stride, const int32_t* biases,
                          int64_t bias_stride, I16* dots) {
  const __m512i shift = _mm512_set1_epi8(static_cast<char>(0x80));
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) dots[r].v[0].raw = _mm512_set1_epi32(biases[r * bias_stride]);
  NIBBLE_UNROLL for (int block = 0; block < 8; ++block) {
    const __m512i weights = _mm512_xor_si512(_mm512_loadu_si512(codes + block * 64), shift);
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) Add(dots[r], weights, x + r * stride + block * 4);
  }
}

template <int kBlock, int kRows>
HWY_INLINE void AddBlock1(__m512i packed, const int8_t* x, int64_t stride, I16* dots) {
  const __m512i bits = BitsOfBytes<kBlock, 1>(packed);
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) Add(dots[r], bits, x + r * stride + kBlock * 4);
}

// Of 0 and 1. The eight blocks lie in the eight bits of one vector.
template <int kRows>
HWY_INLINE void GroupDot1(const uint8_t* codes, const int8_t* x, int64_t stride, I16* dots) {
  const __m512i packed = _mm512_loadu_si512(codes);
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) dots[r].v[0].raw = _mm512_setzero_si512();
  AddBlock1<0, kRows>(packed, x, stride, dots);
  AddBlock1<1, kRows>(packed, x, stride, dots);
  AddBlock1<2, kRows>(packed, x, stride, dots);
  AddBlock1<3, kRows>(packed, x, stride, dots);
  AddBlock1<4, kRows>(packed, x, stride, dots);
  AddBlock1<5, kRows>(packed, x, stride, dots);
  AddBlock1<6, kRows>(packed, x, stride, dots);
  AddBlock1<7, kRows>(packed, x, stride, dots);
}

constexpr int kMaxRows = 8;

#elif HWY_TARGET == HWY_AVX2

// Nothing saturates: a pair sum is at most 2 * 15 * 127 = 3810, and eight of them 30480, below 2^15.
template <int kRows>
HWY_INLINE void GroupDot4(const uint8_t* codes, const int8_t* x, int64_t stride, const int32_t* /*biases*/,
                          int64_t /*bias_stride*/, I16* dots) {
  const __m256i low_mask = _mm256_set1_epi8(15);
  __m256i sums[kRows][2];
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
  NIBBLE_UNROLL for (int pair = 0; pair < 4; ++pair) {
    NIBBLE_UNROLL for (int half = 0; half < 2; ++half) {
      const __m256i packed = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + pair * 64 + half * 32));
      const __m256i low = _mm256_and_si256(packed, low_mask);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(packed, 4), low_mask);
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const int8_t* row = x + r * stride + pair * 8;
        const __m256i even = _mm256_maddubs_epi16(low, _mm256_set1_epi32(LoadFour(row)));
        const __m256i odd = _mm256_maddubs_epi16(high, _mm256_set1_epi32(LoadFour(row + 4)));
        sums[r][half] = _mm256_add_epi16(sums[r][half], _mm256_add_epi16(even, odd));
      }
    }
  }
  const __m256i ones = _mm256_set1_epi16(1);
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    NIBBLE_UNROLL for (int half = 0; half < 2; ++half) { dots[r].v[half].raw = _mm256_madd_epi16(sums[r][half], ones); }
  }
}

// |w| times x with w's sign. Nothing saturates: 2 * 128 * 127 = 32512, below 2^15. (Activations are never -128.)
template <int kRows>
HWY_INLINE void GroupDot8(const uint8_t* codes, const int8_t* x, int64_t stride, const int32_t* /*biases*/,
                          int64_t /*bias_stride*/, I16* dots) {
  const __m256i ones = _mm256_set1_epi16(1);
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) { dots[r].v[0].raw = dots[r].v[1].raw = _mm256_setzero_si256(); }
  NIBBLE_UNROLL for (int block = 0; block < 8; ++block) {
    NIBBLE_UNROLL for (int half = 0; half < 2; ++half) {
      const __m256i weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + block * 64 + half * 32));
      const __m256i magnitude = _mm256_abs_epi8(weights);
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const __m256i row = _mm256_set1_epi32(LoadFour(x + r * stride + block * 4));
        const __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(row, weights));
        __m256i& dot = dots[r].v[half].raw;
        dot = _mm256_add_epi32(dot, _mm256_madd_epi16(pairs, ones));
      }
    }
  }
}

// Nothing saturates: eight pair sums are at most 8 * 2 * 127 = 2032.
template <int kRows>
HWY_INLINE void GroupDot1(const uint8_t* codes, const int8_t* x, int64_t stride, I16* dots) {
  const __m256i bit = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
  __m256i sums[kRows][2];
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
  NIBBLE_UNROLL for (int half = 0; half < 2; ++half) {
    const __m256i packed = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + half * 32));
    NIBBLE_UNROLL for (int block = 0; block < 8; ++block) {
      const __m256i bits = _mm256_and_si256(_mm256_srli_epi16(packed, block), bit);
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const __m256i row = _mm256_set1_epi32(LoadFour(x + r * stride + block * 4));
        sums[r][half] = _mm256_add_epi16(sums[r][half], _mm256_maddubs_epi16(bits, row));
      }
    }
  }
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    NIBBLE_UNROLL for (int half = 0; half < 2; ++half) { dots[r].v[half].raw = _mm256_madd_epi16(sums[r][half], ones); }
  }
}

constexpr int kMaxRows = 4;

#else

#if HWY_TARGET == HWY_NEON

// Four inputs, 4 * block and on, of the four outputs 4 * i and on.
template <int kBits>
HWY_INLINE int8x16_t LoadCodes(const uint8_t* codes, int block, int i) {
  if (kBits == 8) return vreinterpretq_s8_u8(vld1q_u8(codes + block * 64 + i * 16));
  const uint8x16_t packed = vld1q_u8(codes + (kBits == 4 ? block / 2 * 64 : 0) + i * 16);
  const int shift = kBits == 4 ? block % 2 * 4 : block;
  return vreinterpretq_s8_u8(vandq_u8(vshlq_u8(packed, vdupq_n_s8(-shift)), vdupq_n_u8((1 << kBits) - 1)));
}

// The instruction takes the four bytes that it multiplies with out of sixteen; which, the compiler has to know.
template <int kBits, int kBlock, int kRows>
HWY_INLINE void AddBlock(const uint8_t* codes, const int8_t* x, int64_t stride, I16* dots) {
  int8x16_t rows[kRows];
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) rows[r] = vld1q_s8(x + r * stride + kBlock / 4 * 16);
  NIBBLE_UNROLL for (int i = 0; i < 4; ++i) {
    const int8x16_t weights = LoadCodes<kBits>(codes, kBlock, i);
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      int32x4_t& dot = dots[r].v[i].raw;
      dot = vdotq_laneq_s32(dot, weights, rows[r], kBlock % 4);
    }
  }
}

template <int kBits, int kRows, int... kBlock>
HWY_INLINE void AddBlocks(const uint8_t* codes, const int8_t* x, int64_t stride, I16* dots,
                          std::integer_sequence<int, kBlock...>) {
  (AddBlock<kBits, kBlock, kRows>(codes, x, stride, dots), ...);
}

template <int kBits, int kRows>
HWY_INLINE void GroupDot(const uint8_t* codes, const int8_t* x, int64_t stride, I16* dots) {
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) dots[r] = SetInt(0);
  AddBlocks<kBits, kRows>(codes, x, stride, dots, std::make_integer_sequence<int, 8>());
}

#else

// The codes of one group, [input][output].
template <int kBits>
HWY_INLINE int16_t UnpackCode(const uint8_t* codes, int block, int at) {
  if (kBits == 8) return static_cast<int8_t>(codes[block * 64 + at]);
  if (kBits == 4) return (codes[block / 2 * 64 + at] >> (block % 2 * 4)) & 15;
  return (codes[at] >> block) & 1;
}

template <int kBits>
HWY_INLINE void UnpackGroup(const uint8_t* codes, int16_t (*weights)[16]) {
  for (int k = 0; k < kGroupSize; ++k) {
    for (int output = 0; output < 16; ++output) {
      weights[k][output] = UnpackCode<kBits>(codes, k / 4, output * 4 + k % 4);
    }
  }
}

template <int kBits, int kRows>
HWY_INLINE void GroupDot(const uint8_t* codes, const int8_t* x, int64_t stride, I16* dots) {
  int16_t weights[kGroupSize][16];
  UnpackGroup<kBits>(codes, weights);
  for (int r = 0; r < kRows; ++r) {
    int32_t sums[16] = {};
    for (int k = 0; k < kGroupSize; ++k) {
      for (int output = 0; output < 16; ++output) sums[output] += weights[k][output] * x[r * stride + k];
    }
    dots[r] = LoadInt(sums);
  }
}

#endif

template <int kRows>
HWY_INLINE void GroupDot4(const uint8_t* codes, const int8_t* x, int64_t stride, const int32_t* /*biases*/,
                          int64_t /*bias_stride*/, I16* dots) {
  GroupDot<4, kRows>(codes, x, stride, dots);
}

template <int kRows>
HWY_INLINE void GroupDot8(const uint8_t* codes, const int8_t* x, int64_t stride, const int32_t* /*biases*/,
                          int64_t /*bias_stride*/, I16* dots) {
  GroupDot<8, kRows>(codes, x, stride, dots);
}

template <int kRows>
HWY_INLINE void GroupDot1(const uint8_t* codes, const int8_t* x, int64_t stride, I16* dots) {
  GroupDot<1, kRows>(codes, x, stride, dots);
}

constexpr int kMaxRows = 4;

#endif

// Tile::Run<n>(args, row) for all of args.rows rows, as many at a time as one tile may have.
template <typename Tile, typename Args>
HWY_INLINE void RunTiles(const Args& args) {
  int64_t row = 0;
  for (; row + kMaxRows <= args.rows; row += kMaxRows) Tile::template Run<kMaxRows>(args, row);
  if constexpr (kMaxRows > 4) {
    for (; row + 4 <= args.rows; row += 4) Tile::template Run<4>(args, row);
  }
  for (; row + 2 <= args.rows; row += 2) Tile::template Run<2>(args, row);
  for (; row < args.rows; ++row) Tile::template Run<1>(args, row);
}

}  // namespace HWY_NAMESPACE
}  // namespace engine
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // toggle
