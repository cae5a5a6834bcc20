// Values as signed levels times a scale per token and group of 32 channels, after a transform of the head that keeps
// dot products. int8.cc and int4.cc say which levels and which transform, as Format:
//
//   kBits, kWide               of the levels; whether weights are wide operands (operands-inl.h)
//   Transform(x, head_dim, n)  x: [head_dim][n], in place, over the first dimension; its own inverse
//   Levels(x, levels) -> V16   x: 32 channels of 16 tokens, channels 32 floats apart. Stores levels as bytes, channels
//                              32 apart, and returns the tokens' scales, which are byte scales (scales-inl.h)
//
// A head's bytes, D = head_dim:
//   levels     packed (affine_codec.h) [32 tokens][D channels], two's complement    D * 4 * kBits
//   scales     [D / 32][32 tokens], a byte each                                     D
// Infinite numbers are coded as the largest finite f16, NaN as 0.
//
// Reading: value_mix-inl.h. FinishMix transforms the accumulators and adds them.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_CODECS_SYMMETRIC_VALUES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_CODECS_SYMMETRIC_VALUES_INL_H_
#undef NIBBLE_KVCACHE_CODECS_SYMMETRIC_VALUES_INL_H_
#else
#define NIBBLE_KVCACHE_CODECS_SYMMETRIC_VALUES_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "kvcache/codecs/affine_codec.h"
#include "kvcache/codecs/levels-inl.h"
#include "kvcache/codecs/scales-inl.h"
#include "kvcache/codecs/value_mix-inl.h"

#if HWY_TARGET == HWY_AVX3_DL
NIBBLE_BEFORE_VNNI_NAMESPACE();
#else
HWY_BEFORE_NAMESPACE();
#endif
namespace nibble {
namespace kv {
namespace HWY_NAMESPACE {

using namespace nibble::simd::HWY_NAMESPACE;  // NOLINT: the vector vocabulary of this target

template <typename Format>
class SymmetricValues {
 public:
  using Page = ValuePage;

  explicit SymmetricValues(int head_dim) : head_dim_(head_dim) {}

  static int64_t Bytes(int head_dim) { return int64_t{head_dim} * (4 * kBits + Scales::kBytes); }

  void Encode(const uint16_t* raw, uint8_t* out) const {
    HWY_ALIGN float x[kMaxHeadDim * kPageTokens];
    for (int d = 0; d < head_dim_; d += kGroup) LoadTransposed(raw + d, head_dim_, x + d * kPageTokens);
    Format::Transform(x, head_dim_, kPageTokens);
    uint8_t* scales = out + level_bytes();
    for (int d = 0; d < head_dim_; d += kGroup) {
      HWY_ALIGN uint8_t levels[kGroup * kPageTokens];
      for (int t = 0; t < kPageTokens; t += 16) {
        Scales::Store(Format::Levels(x + d * kPageTokens + t, levels + t), scales + (d + t) * Scales::kBytes);
      }
      PackCodes<kBits>(levels, kPageTokens, kGroup, 0, out + d * 4, int64_t{head_dim_} * 4);
    }
  }

  void LoadPage(const uint8_t* sealed, ValuePage* page) const {
    page->codes = sealed;
    const uint8_t* scales = sealed + level_bytes();
    for (int i = 0; i < head_dim_; i += 16) Store(Scales::Load(scales + i * Scales::kBytes), page->scales + i);
  }

  int64_t mix_floats() const { return head_dim_; }

  void Mix(const ValuePage* pages, int num_pages, const MixRows& at, int rows) const {
    MixPages<kBits, Format::kWide, false>(pages, num_pages, head_dim_, at, rows);
  }

  void FinishMix(const float* accumulators, int rows, float* mixed) const {
    for (int r = 0; r < rows; ++r) {
      HWY_ALIGN float x[kMaxHeadDim];
      std::copy_n(accumulators + static_cast<int64_t>(r) * head_dim_, head_dim_, x);
      Format::Transform(x, head_dim_, 1);
      for (int d = 0; d < head_dim_; ++d) mixed[static_cast<int64_t>(r) * head_dim_ + d] += x[d];
    }
  }

 private:
  using Scales = ByteScales;
  static constexpr int kBits = Format::kBits;

  int64_t level_bytes() const { return int64_t{head_dim_} * 4 * kBits; }

  const int head_dim_;
};

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_SYMMETRIC_VALUES_INL_H_
