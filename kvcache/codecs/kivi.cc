// `kivi4` and `kivi2`: keys per channel over the page's 32 tokens, values per token over groups of 32 channels,
// asymmetric with f16 scale and min; 5 and 3 bits. Source: KIVI, arXiv 2402.02750, section 3, with the page as the
// group of keys (and raw f16 rows for what is not sealed, which is the paper's residual).
//
// Encoding, of 32 numbers: min = the least (a half, as they all are); scale = f16((largest - min) / (2^bits - 1));
// code = nearest((x - min) / scale), ties to even, within 0 .. 2^bits - 1, all in float32 with the rounded scale. Where
// that is 0 all codes are 0. So x is restored as min + scale * code. Infinite numbers are coded as the largest finite
// half, NaN as 0.
//
// Keys' bytes and reading: channel_keys-inl.h; scales are f16; kivi4 takes wide operands, kivi2 narrow ones.
//
// Values' bytes, D = head_dim:
//   codes               packed (affine_codec.h) [32 tokens][D channels], code - 2^(bits - 1) in two's complement
//                                                                D * 4 * bits
//   scales, then mins   f16 [D / 32][32 tokens] each             D * 4
//
// Reading values: with h = 2^(bits - 1), value = (min + h * scale) + scale * (code - h), the second part by
// value_mix-inl.h with narrow operands. The first is one number per token and group, z = fma(h, scale, min), and is
// mixed with the weights as they are: lane t mod 16 of the group's sixteen = fma(weight[t], z[t], lane), t ascending,
// tokens of weight 0 left out. Accumulators are [D] of the codes, then [D / 32][16] lanes; FinishMix adds SumLanes of a
// group's lanes to each of its channels.
#include "kvcache/base/status_macros.h"
#include "kvcache/codecs/affine.h"
#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kvcache/codecs/kivi.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kvcache/codecs/channel_keys-inl.h"
#include "kvcache/codecs/keys_and_values-inl.h"
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
namespace {

template <int kCodeBits>
struct KiviFormat {
  static constexpr int kBits = kCodeBits;
  static constexpr bool kWide = kBits == 4;
  using Scales = HalfScales;

  static Line Fit(const float* x, uint8_t* codes) {
    const auto [least, largest] = ExtentOf(x, Load(x));
    constexpr int kMost = (1 << kBits) - 1;
    const V16 scale = RoundToHalf(Div(Sub(largest, least), Set(kMost)));
    for (int i = 0; i < 32; ++i) StoreLevels<0, kMost>(Load(x + 32 * i), least, scale, codes + 32 * i);
    return {scale, least};
  }
};

template <int kBits>
class KiviValues {
 public:
  using Page = ValuePage;

  explicit KiviValues(int head_dim) : head_dim_(head_dim) {}

  static int64_t Bytes(int head_dim) { return int64_t{head_dim} * (4 * kBits + 4); }

  void Encode(const uint16_t* raw, uint8_t* out) const {
    uint8_t* scales = out + scales_at();
    auto* mins = reinterpret_cast<uint16_t*>(out + mins_at());
    for (int d = 0; d < head_dim_; d += kGroup) {
      HWY_ALIGN uint8_t codes[32 * 32];
      EncodeSquare<KiviFormat<kBits>>(raw + d, head_dim_, codes, scales + 2 * d, mins + d);
      PackCodes<kBits>(codes, 32, kGroup, kHalf, out + d * 4, int64_t{head_dim_} * 4);
    }
  }

  void LoadPage(const uint8_t* sealed, ValuePage* page) const {
    page->codes = sealed;
    for (int i = 0; i < head_dim_; i += 16) {
      const V16 scales = HalfScales::Load(sealed + scales_at() + 2 * i);
      const V16 mins = HalfScales::Load(sealed + mins_at() + 2 * i);
      Store(scales, page->scales + i);
      Store(Fma(Set(kHalf), scales, mins), page->zero_points + i);
    }
  }

  int64_t mix_floats() const { return head_dim_ + head_dim_ / kGroup * 16; }

  void Mix(const ValuePage* pages, int num_pages, const MixRows& at, int rows) const {
    MixPages<kBits, false, true>(pages, num_pages, head_dim_, at, rows);
  }

  void FinishMix(const float* accumulators, int rows, float* mixed) const {
    for (int r = 0; r < rows; ++r) {
      const float* lanes = accumulators + head_dim_;
      for (int d = 0; d < head_dim_; d += kGroup, lanes += 16) {
        const V16 zero = Set(SumLanes(Load(lanes)));
        for (int i = d; i < d + kGroup; i += 16) {
          Store(Add(Load(mixed + i), Add(Load(accumulators + i), zero)), mixed + i);
        }
      }
      accumulators += mix_floats();
      mixed += head_dim_;
    }
  }

 private:
  static constexpr int kHalf = 1 << (kBits - 1);

  int64_t scales_at() const { return int64_t{head_dim_} * 4 * kBits; }
  int64_t mins_at() const { return scales_at() + int64_t{head_dim_} * 2; }

  const int head_dim_;
};

template <int kBits>
std::unique_ptr<PageCodec> NewKivi(const CodecModel& model) {
  return std::make_unique<KeysAndValues<ChannelKeys<KiviFormat<kBits>>, KiviValues<kBits>>>(model);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nibble::kv {

absl::StatusOr<std::unique_ptr<PageCodec>> CreateKivi4(const CodecModel& model, const Calibration* /*calibration*/,
                                                       simd::Isa isa) {
  NIBBLE_RETURN_IF_ERROR(CheckHeadDim(model.head_dim));
  return NIBBLE_FOR_ISA(isa, NewKivi<4>(model));
}

absl::StatusOr<std::unique_ptr<PageCodec>> CreateKivi2(const CodecModel& model, const Calibration* /*calibration*/,
                                                       simd::Isa isa) {
  NIBBLE_RETURN_IF_ERROR(CheckHeadDim(model.head_dim));
  return NIBBLE_FOR_ISA(isa, NewKivi<2>(model));
}

}  // namespace nibble::kv
#endif  // HWY_ONCE
