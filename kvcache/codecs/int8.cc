// `int8`: keys per channel over the page's 32 tokens, 8-bit codes with an 8-bit scale and an f16 min; values as signed
// 8-bit levels with 8-bit scales per token and group of 32 channels. 8.75 bits for keys, 8.25 for values, 8.5 together.
// Bytes and reading: channel_keys-inl.h and symmetric_values-inl.h, both with wide operands; byte scales: scales-inl.h.
//
// Keys are coded per channel as KIVI's (arXiv 2402.02750), and not per token as GGUF's Q8_0 is, since channels are what
// outlies: a step per token and group follows the group's largest channel, and on Qwen2.5 costs 0.3 % of perplexity.
// Of y, the 32 numbers of a channel:
//   min = f16(least y), which is exact; scale = the smallest byte scale not below (largest y - min) / 255
//   code = nearest((y - min) / scale), ties to even, within 0 .. 255; 0 where scale is 0
//
// Values, per token and group: scale = the smallest byte scale not below largest magnitude / 127; level = nearest(x /
// scale), ties to even, within +-127; 0 where scale is 0.
//
// Byte scales end at 2^-17: keys' channels of a range below 0.002, and values below 0.001, have fewer levels. An
// infinite or extreme key widens the step of its channel for the page's other tokens.
//
// Queries and weights are wide operands (16 bits), so that what a reader adds to the codes' own rounding is little:
// affine_test.cc measures it.
#include "kvcache/base/status_macros.h"
#include "kvcache/codecs/affine.h"
#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kvcache/codecs/int8.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kvcache/codecs/channel_keys-inl.h"
#include "kvcache/codecs/keys_and_values-inl.h"
#include "kvcache/codecs/levels-inl.h"
#include "kvcache/codecs/scales-inl.h"
#include "kvcache/codecs/symmetric_values-inl.h"

#if HWY_TARGET == HWY_AVX3_DL
NIBBLE_BEFORE_VNNI_NAMESPACE();
#else
HWY_BEFORE_NAMESPACE();
#endif
namespace nibble {
namespace kv {
namespace HWY_NAMESPACE {
namespace {

struct Int8Keys {
  static constexpr int kBits = 8;
  static constexpr bool kWide = true;
  using Scales = ByteScales;

  static Line Fit(const float* x, uint8_t* codes) {
    const auto [least, largest] = ExtentOf(x, Load(x));
    const V16 scale = ByteScales::Of(ByteScales::Above(Div(Sub(largest, least), Set(255.0f))));
    for (int i = 0; i < kPageTokens; ++i) StoreLevels<0, 255>(Load(x + 32 * i), least, scale, codes + 32 * i);
    return {scale, least};
  }
};

struct Int8Values {
  static constexpr int kBits = 8;
  static constexpr bool kWide = true;

  static void Transform(float* /*x*/, int /*head_dim*/, int /*n*/) {}

  static V16 Levels(const float* x, uint8_t* levels) {
    const auto [least, largest] = ExtentOf(x, Zero());
    const V16 scale = ByteScales::Of(ByteScales::Above(Div(Max(largest, Sub(Zero(), least)), Set(127.0f))));
    for (int i = 0; i < kGroup; ++i) {
      StoreLevels<-127, 127>(Load(x + i * kPageTokens), Zero(), scale, levels + i * kPageTokens);
    }
    return scale;
  }
};

std::unique_ptr<PageCodec> NewInt8(const CodecModel& model) {
  return std::make_unique<KeysAndValues<ChannelKeys<Int8Keys>, SymmetricValues<Int8Values>>>(model);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nibble::kv {

absl::StatusOr<std::unique_ptr<PageCodec>> CreateInt8(const CodecModel& model, const Calibration* /*calibration*/,
                                                      simd::Isa isa) {
  NIBBLE_RETURN_IF_ERROR(CheckHeadDim(model.head_dim));
  return NIBBLE_FOR_ISA(isa, NewInt8(model));
}

}  // namespace nibble::kv
#endif  // HWY_ONCE
