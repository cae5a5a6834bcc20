// The mix of values that have codes times a scale per token and group of 32 channels, by integers.
//
// Per row, page and group: the weights times the tokens' scales are rounded to operands (operands-inl.h) with one scale
// W; then, channel by channel, accumulator = fma(float(sum over t of operand[t] * code[t]), W, accumulator).
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_CODECS_VALUE_MIX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_CODECS_VALUE_MIX_INL_H_
#undef NIBBLE_KVCACHE_CODECS_VALUE_MIX_INL_H_
#else
#define NIBBLE_KVCACHE_CODECS_VALUE_MIX_INL_H_
#endif

#include <cstdint>

#include "kvcache/codecs/lane_dots-inl.h"
#include "kvcache/page.h"

#if HWY_TARGET == HWY_AVX3_DL
NIBBLE_BEFORE_VNNI_NAMESPACE();
#else
HWY_BEFORE_NAMESPACE();
#endif
namespace nibble {
namespace kv {
namespace HWY_NAMESPACE {

using namespace nibble::simd::HWY_NAMESPACE;  // NOLINT: the vector vocabulary of this target

// The values of one head's page, parameters as floats: [group][token].
struct ValuePage {
  const uint8_t* codes;
  HWY_ALIGN float scales[kMaxHeadDim];
  HWY_ALIGN float zero_points[kMaxHeadDim];  // where the codec has them
};

// Rows of weights and accumulators.
struct MixRows {
  const float* weights;
  int64_t weight_stride;
  float* accumulators;
  int64_t accumulator_stride;
};

// lanes + weights * zero_points, where weights are not 0.
HWY_INLINE V16 AddWeighted(V16 weights, V16 zero_points, V16 lanes) {
  V16 r;
#if HWY_TARGET == HWY_AVX3_DL
  const __mmask16 seen = _mm512_cmp_ps_mask(weights.v[0].raw, _mm512_setzero_ps(), _CMP_NEQ_UQ);
  r.v[0].raw = _mm512_mask3_fmadd_ps(weights.v[0].raw, zero_points.v[0].raw, lanes.v[0].raw, seen);
#else
  const V16 sum = Fma(weights, zero_points, lanes);
  NIBBLE_PARTS r.v[i] = hn::IfThenElse(hn::Eq(weights.v[i], hn::Zero(F())), lanes.v[i], sum.v[i]);
#endif
  return r;
}

// Rounds one row's weights times the scales of a page to operands [group][32 tokens] with a scale per group, and mixes
// the zero points.
template <bool kWide, bool kZeroPoints>
HWY_INLINE void PrepareWeights(const ValuePage& page, int groups, const float* weights, uint8_t* operands,
                               float* operand_scales, float* lanes) {
  const V16 front = Load(weights), back = Load(weights + 16);
  for (int g = 0; g < groups; ++g) {
    const float* scales = page.scales + g * kPageTokens;
    operand_scales[g] = QuantizeWeights<kWide>(Mul(front, Load(scales)), Mul(back, Load(scales + 16)),
                                               operands + g * kPageTokens * (kWide ? 2 : 1), kPageTokens);
    if constexpr (kZeroPoints) {
      const float* zero_points = page.zero_points + g * kPageTokens;
      const V16 sum = AddWeighted(front, Load(zero_points), Load(lanes + 16 * g));
      Store(AddWeighted(back, Load(zero_points + 16), sum), lanes + 16 * g);
    }
  }
}

// kRows rows from `first_row` on, a few pages. All weights are rounded before any page is mixed: rounding is a chain of
// slow steps, and those of different rows and pages overlap.
template <int kBits, bool kWide, bool kZeroPoints, int kRows>
void MixBlock(const ValuePage* pages, int num_pages, int head_dim, const MixRows& rows, int first_row) {
  constexpr int kGroupBytes = kPageTokens * (kWide ? 2 : 1), kMostGroups = kMaxHeadDim / kGroup;
  constexpr int64_t kRowBytes = kMostGroups * kGroupBytes;
  HWY_ALIGN uint8_t operands[kPagesAtOnce][kRows][kRowBytes];
  HWY_ALIGN float scales[kPagesAtOnce][kRows][kMostGroups];
  const int groups = head_dim / kGroup;
  float* accumulators = rows.accumulators + first_row * rows.accumulator_stride;
  for (int p = 0; p < num_pages; ++p) {
    for (int r = 0; r < kRows; ++r) {
      const float* weights = rows.weights + (first_row + r) * rows.weight_stride + p * kPageTokens;
      PrepareWeights<kWide, kZeroPoints>(pages[p], groups, weights, operands[p][r], scales[p][r],
                                         accumulators + r * rows.accumulator_stride + head_dim);
    }
  }
  for (int g = 0; g < groups; ++g) {
    V16 sums[kRows][2];
    float* out = accumulators + g * kGroup;
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      NIBBLE_UNROLL for (int v = 0; v < 2; ++v) sums[r][v] = Load(out + r * rows.accumulator_stride + 16 * v);
    }
    for (int p = 0; p < num_pages; ++p) {
      I16 dots[kRows][2];
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) dots[r][0] = dots[r][1] = SetInt(0);
      const Operands x = {operands[p][0] + g * kGroupBytes, kRowBytes, kPageTokens};
      LaneDots<kBits, true, kWide, kRows>(pages[p].codes + g * kGroup * 4, int64_t{head_dim} * 4, kBits, x, dots);
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const V16 scale = Set(scales[p][r][g] * kDotUnit<kBits, true>);
        NIBBLE_UNROLL for (int v = 0; v < 2; ++v) sums[r][v] = Fma(ToFloat(dots[r][v]), scale, sums[r][v]);
      }
    }
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      NIBBLE_UNROLL for (int v = 0; v < 2; ++v) Store(sums[r][v], out + r * rows.accumulator_stride + 16 * v);
    }
  }
}

// At most kPagesAtOnce pages.
template <int kBits, bool kWide, bool kZeroPoints>
void MixPages(const ValuePage* pages, int num_pages, int head_dim, const MixRows& at, int rows) {
  constexpr int kMost = kMaxRows<kWide>;
  int row = 0;
  for (; row + kMost <= rows; row += kMost) {
    MixBlock<kBits, kWide, kZeroPoints, kMost>(pages, num_pages, head_dim, at, row);
  }
  if constexpr (kMost > 3) {
    for (; row + 3 <= rows; row += 3) MixBlock<kBits, kWide, kZeroPoints, 3>(pages, num_pages, head_dim, at, row);
  }
  for (; row < rows; ++row) MixBlock<kBits, kWide, kZeroPoints, 1>(pages, num_pages, head_dim, at, row);
}

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_VALUE_MIX_INL_H_
