// `int8`: signed 8-bit levels, f16 scales per token and group of 32 channels; 8.5 bits. Bytes and reading:
// symmetric-inl.h, without a transform.
//
// Encoding, per token and group: scale = f16(largest magnitude / 127); level = nearest(x / scale), ties to even, within
// +-127; a group whose scale rounds to 0 has levels 0. The format is that of GGUF's Q8_0 with tokens in a page's order.
//
// Queries and weights are wide operands (16 bits), so that what a reader loses is the levels' own rounding alone:
// affine_test.cc measures it.
#include "kvcache/base/status_macros.h"
#include "kvcache/codecs/affine.h"
#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kvcache/codecs/int8.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kvcache/codecs/symmetric-inl.h"

#if HWY_TARGET == HWY_AVX3_DL
NIBBLE_BEFORE_VNNI_NAMESPACE();
#else
HWY_BEFORE_NAMESPACE();
#endif
namespace nibble {
namespace kv {
namespace HWY_NAMESPACE {
namespace {

struct Int8 {
  static constexpr int kBits = 8;
  static constexpr bool kWide = true, kCenterKeys = false;
  static constexpr int kScaleBytes = 2;  // f16

  static V16 LoadScales(const uint8_t* p) { return LoadHalf(reinterpret_cast<const uint16_t*>(p)); }
  static void StoreScales(V16 scales, uint8_t* p) { StoreHalf(scales, reinterpret_cast<uint16_t*>(p)); }
  static void Transform(float* /*x*/, int /*head_dim*/, int /*width*/) {}

  static V16 Levels(const float* x, uint8_t* levels) {
    V16 largest = Zero(), least = Zero();
    for (int i = 0; i < kGroup; ++i) {
      largest = Max(largest, Load(x + i * kPageTokens));
      least = Min(least, Load(x + i * kPageTokens));
    }
    const V16 scale = RoundToHalf(Div(Max(largest, Sub(Zero(), least)), Set(127.0f)));
    for (int i = 0; i < kGroup; ++i) {
      StoreLevels<-127, 127>(Load(x + i * kPageTokens), Zero(), scale, levels + i * kPageTokens);
    }
    return scale;
  }
};

std::unique_ptr<PageCodec> NewInt8(const CodecModel& model) { return std::make_unique<SymmetricCodec<Int8>>(model); }

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
