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

#if HWY_TARGET == HWY_AVX3_DL
template <bool kWide>
inline constexpr int kMaxRows = kWide ? 3 : 6;  // what the registers hold
#else
template <bool kWide>
inline constexpr int kMaxRows = 3;
#endif

// 32 floats: of the tokens of a page, or the channels of a group.
struct Pair {
  V16 v[2];
};
HWY_INLINE Pair LoadHalfPair(const uint16_t* p) { return {{LoadHalf(p), LoadHalf(p + 16)}}; }

// kRows rows' weights and accumulators of one group of 32 channels.
struct MixRows {
  const float* weights;
  int64_t weight_stride;
  float* accumulators;
  int64_t accumulator_stride;
};

// codes: of the group's 32 channels, packed with all channels of the head: `block_bytes` is that of the head.
template <int kBits, bool kWide, int kRows>
HWY_INLINE void MixGroup(const uint8_t* codes, int64_t block_bytes, const Pair& token_scales, const MixRows& rows) {
  constexpr int kRowBytes = kPageTokens * (kWide ? 2 : 1);
  HWY_ALIGN uint8_t buffer[kRows * kRowBytes];
  I16 dots[kRows][2];
  float scales[kRows];
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    const float* weights = rows.weights + r * rows.weight_stride;
    scales[r] =
        QuantizePair<false, kWide>(Mul(Load(weights), token_scales.v[0]), Mul(Load(weights + 16), token_scales.v[1]),
                                   buffer + r * kRowBytes, kPageTokens);
    dots[r][0] = dots[r][1] = SetInt(0);
  }
  constexpr int kBlocks = kPageTokens * kBits / 32;
  LaneDots<kBits, true, kWide, kRows>(codes, block_bytes, kBlocks, {buffer, kRowBytes, kPageTokens}, dots);
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    float* out = rows.accumulators + r * rows.accumulator_stride;
    const V16 scale = Set(scales[r] * kDotUnit<kBits, true>);
    NIBBLE_UNROLL for (int v = 0; v < 2; ++v) {
      Store(Fma(ToFloat(dots[r][v]), scale, Load(out + 16 * v)), out + 16 * v);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_VALUE_MIX_INL_H_
