// `int8`: signed 8-bit levels, f16 scales per token and group of 32 channels; 8.5 bits.
//
// Encoding, per token and group: scale = f16(largest magnitude / 127); level = nearest(x / scale), ties to even, within
// +-127; a group whose scale rounds to 0 has levels 0. The format is that of GGUF's Q8_0 with tokens in a page's order.
//
// Keys' bytes, D = head_dim:
//   levels    packed (affine_codec.h) [D channels][32 tokens], offset by 128    D * 32
//   scales    f16 [D / 32][32 tokens]                                           D * 2
// Values' bytes and reading: symmetric_values-inl.h, without a transform. Infinite numbers are coded as the largest
// finite f16, NaN as 0.
//
// Reading keys: a query is rounded to operands (operands-inl.h) once, with a scale per group of 32 channels. Score of
// token t: over groups g ascending, score = fma(float(sum over d of x[d] * level[t][d]), query_scale[g] *
// key_scale[t][g], score), from 0.
//
// Queries and weights are wide operands (16 bits), so that what a reader loses is the levels' own rounding alone:
// affine_test.cc measures it.
#include <cstring>

#include "kvcache/base/status_macros.h"
#include "kvcache/codecs/affine.h"
#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kvcache/codecs/int8.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kvcache/codecs/keys_and_values-inl.h"
#include "kvcache/codecs/lane_dots-inl.h"
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

struct Int8Format {
  static constexpr int kBits = 8;
  static constexpr bool kWide = true;
  using Scales = HalfScales;

  static void Transform(float* /*x*/, int /*head_dim*/, int /*n*/) {}

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

class Int8Keys {
 public:
  explicit Int8Keys(int head_dim) : head_dim_(head_dim) {}

  struct Page {
    const uint8_t* levels;
  };

  static int64_t Bytes(int head_dim) { return int64_t{head_dim} * (32 + 2); }

  void Encode(const uint16_t* raw, uint8_t* out) const {
    for (int d = 0; d < head_dim_; d += kGroup) {
      HWY_ALIGN float x[kGroup * kPageTokens];
      HWY_ALIGN uint8_t levels[kGroup * kPageTokens];
      for (int i = 0; i < kGroup * kPageTokens; i += 16) Store(LoadFinite(raw + d * kPageTokens + i), x + i);
      for (int t = 0; t < kPageTokens; t += 16) {
        HalfScales::Store(Int8Format::Levels(x + t, levels + t), out + level_bytes() + (d + t) * 2);
      }
      PackCodes<8>(levels, kPageTokens, 1, kPageTokens, kOffset, out + d * kPageTokens, kPageTokens * 4);
    }
  }

  void LoadPage(const uint8_t* sealed, Page* page) const { page->levels = sealed; }

  int64_t query_floats() const { return int64_t{head_dim_} / kGroup * kQueryGroupFloats; }

  void PrepareQueries(const float* queries, int rows, float* prepared) const {
    const int groups = rows * head_dim_ / kGroup;
    for (int g = 0; g < groups; ++g) PrepareGroup(queries + g * kGroup, prepared + g * kQueryGroupFloats);
  }

  void Score(const Page* pages, int num_pages, const ScoreRows& at, int rows) const {
    for (int p = 0; p < num_pages; ++p) {
      const ScoreRows page_at = {at.queries, at.scores + p * kPageTokens, at.score_stride};
      int row = 0;
      for (; row + kMost <= rows; row += kMost) ScorePage<kMost>(pages[p].levels, page_at, row);
      for (; row < rows; ++row) ScorePage<1>(pages[p].levels, page_at, row);
    }
  }

 private:
  static constexpr int kMost = kMaxRows<true>, kOffset = 128;
  static constexpr int kOperandBytes = kGroup * 2;
  // Of a prepared query's group: operands, their scale, and the integer that takes the keys' offset out of the dot.
  static constexpr int kQueryGroupFloats = kOperandBytes / 4 + 2;

  int64_t level_bytes() const { return int64_t{head_dim_} * kPageTokens; }

  // Of one query's 32 channels.
  static void PrepareGroup(const float* x, float* out) {
    auto* operands = reinterpret_cast<uint8_t*>(out);
    out[kOperandBytes / 4] = QuantizePair<true, true>(Load(x), Load(x + 16), operands, kGroup);
    int32_t sum = 0;
    for (int i = 0; i < kGroup; ++i) sum += OperandAt<true, true>(operands, kGroup, i);
    const int32_t bias = -kOffset * sum;
    std::memcpy(out + kOperandBytes / 4 + 1, &bias, sizeof(bias));
  }

  template <int kRows>
  void ScorePage(const uint8_t* levels, const ScoreRows& rows, int first_row) const {
    const uint8_t* scales = levels + level_bytes();
    const int64_t stride = query_floats();
    const float* query = rows.queries + first_row * stride;
    V16 sums[kRows][2];
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = Zero();
    for (int d = 0; d < head_dim_; d += kGroup) {
      I16 dots[kRows][2];
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        int32_t bias;
        std::memcpy(&bias, query + r * stride + kOperandBytes / 4 + 1, sizeof(bias));
        dots[r][0] = dots[r][1] = SetInt(bias);
      }
      const Operands operands = {reinterpret_cast<const uint8_t*>(query), stride * 4, kGroup};
      LaneDots<8, false, true, kRows>(levels, kPageTokens * 4, 8, operands, dots);
      const V16 key_scales[2] = {HalfScales::Load(scales), HalfScales::Load(scales + 32)};
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const V16 query_scale = Set(query[r * stride + kOperandBytes / 4]);
        NIBBLE_UNROLL for (int v = 0; v < 2; ++v) {
          sums[r][v] = Fma(ToFloat(dots[r][v]), Mul(query_scale, key_scales[v]), sums[r][v]);
        }
      }
      levels += kGroup * kPageTokens, scales += kPageTokens * 2, query += kQueryGroupFloats;
    }
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      float* out = rows.scores + (first_row + r) * rows.score_stride;
      Store(sums[r][0], out);
      Store(sums[r][1], out + 16);
    }
  }

  const int head_dim_;
};

std::unique_ptr<PageCodec> NewInt8(const CodecModel& model) {
  return std::make_unique<KeysAndValues<Int8Keys, SymmetricValues<Int8Format>>>(model);
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
