// The codecs whose keys and values alike are signed levels times a scale per token and group of 32 channels, after a
// transform of the head that keeps dot products. int8.cc and int4.cc say which levels and which transform, as Format:
//
//   kBits, kWide                         of the levels; whether queries and weights are wide operands
//   kCenterKeys                          whether keys are coded as differences from their page's mean
//   kScaleBytes, LoadScales, StoreScales of sixteen scales
//   Transform(x, head_dim, width)        x: [head_dim][width], in place, over the first dimension; its own inverse
//   Levels(x, levels) -> V16             x: 32 channels of 16 tokens, channels 32 floats apart. Returns the tokens'
//                                        scales >= 0, exactly as stored, and stores levels as bytes, channels 32 apart
//
// A head's bytes, D = head_dim:
//   keys' levels    packed [D channels][32 tokens], offset by 2^(kBits - 1)    D * 4 * kBits
//   keys' means     f16 [D], where kCenterKeys                                 D * 2
//   keys' scales    [D / 32][32 tokens]                                        D * kScaleBytes
//   values' levels  packed [32 tokens][D channels], two's complement           D * 4 * kBits
//   values' scales  [D / 32][32 tokens]                                        D * kScaleBytes
// Infinite numbers are coded as the largest finite f16, NaN as 0. A mean is that of the transformed keys: token t joins
// t + 16, the sixteen sums by SumLanes, times 1 / 32, within +-65504, rounded to f16.
//
// Reading. A query is transformed and rounded to operands once, with a scale per group of 32 channels. Score of token
// t: over groups g ascending, score = fma(float(sum over d of x[d] * level[t][d]), query_scale[g] * key_scale[t][g],
// score), from 0 or, where keys are centered, from the sum of query[d] * mean[d] in sixteen virtual lanes, d ascending
// by fused multiply-add from 0, then SumLanes. Values: value_mix-inl.h. FinishMix transforms the accumulators and adds
// them.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_CODECS_SYMMETRIC_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_CODECS_SYMMETRIC_INL_H_
#undef NIBBLE_KVCACHE_CODECS_SYMMETRIC_INL_H_
#else
#define NIBBLE_KVCACHE_CODECS_SYMMETRIC_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kvcache/codecs/affine_codec.h"
#include "kvcache/codecs/lane_dots-inl.h"
#include "kvcache/codecs/levels-inl.h"
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
class SymmetricCodec final : public AffineCodec {
 public:
  explicit SymmetricCodec(const CodecModel& model)
      : AffineCodec(model, KeyBytes(model.head_dim) + ValueBytes(model.head_dim)) {}

  void Encode(HeadId /*head*/, int64_t /*page_index*/, const uint16_t* raw, std::byte* out) const final {
    HWY_ALIGN float x[kMaxHeadDim * kPageTokens];
    auto* keys = reinterpret_cast<uint8_t*>(out);
    for (int i = 0; i < head_dim() * kPageTokens; i += 16) Store(LoadFinite(raw + i), x + i);
    Format::Transform(x, head_dim(), kPageTokens);
    if constexpr (kCenterKeys) Center(x, reinterpret_cast<uint16_t*>(keys + code_bytes()));
    EncodeLevels<false>(x, keys, keys + code_bytes() + mean_bytes());
    const uint16_t* values = raw + head_dim() * kPageTokens;
    for (int d = 0; d < head_dim(); d += kGroup) LoadTransposed(values + d, head_dim(), x + d * kPageTokens);
    Format::Transform(x, head_dim(), kPageTokens);
    uint8_t* coded = keys + KeyBytes(head_dim());
    EncodeLevels<true>(x, coded, coded + code_bytes());
  }

  int64_t query_floats() const final { return groups() * kQueryGroupFloats + (kCenterKeys ? head_dim() : 0); }

  void PrepareQueries(HeadId /*head*/, const float* queries, int rows, float* prepared) const final {
    for (int r = 0; r < rows; ++r) {
      HWY_ALIGN float x[kMaxHeadDim];
      std::copy_n(queries + static_cast<int64_t>(r) * head_dim(), head_dim(), x);
      Format::Transform(x, head_dim(), 1);
      float* out = prepared + r * query_floats();
      for (int g = 0; g < groups(); ++g) PrepareGroup(x + g * kGroup, out + g * kQueryGroupFloats);
      if constexpr (kCenterKeys) std::copy_n(x, head_dim(), out + groups() * kQueryGroupFloats);
    }
  }

  void Scores(HeadId /*head*/, const PageRun& run, const float* prepared, int rows, float* scores,
              int64_t score_stride) const final {
    for (const std::byte* page : run.pages.subspan(0, kPagesAtOnce)) PrefetchBytes(page, KeyBytes(head_dim()));
    for (size_t p = 0; p < run.pages.size(); ++p) {
      const std::byte* page = run.pages[p];
      if (p + kPagesAtOnce < run.pages.size()) PrefetchBytes(run.pages[p + kPagesAtOnce], KeyBytes(head_dim()));
      PrefetchBytes(page + KeyBytes(head_dim()), ValueBytes(head_dim()));  // values, for Mix
      const ScoreRows at = {prepared, scores, score_stride};
      int row = 0;
      for (; row + kMost <= rows; row += kMost) ScorePage<kMost>(page, at, row);
      if constexpr (kMost > 3) {
        for (; row + 3 <= rows; row += 3) ScorePage<3>(page, at, row);
      }
      for (; row < rows; ++row) ScorePage<1>(page, at, row);
      scores += kPageTokens;
    }
  }

  int64_t mix_floats() const final { return head_dim(); }

  void Mix(HeadId /*head*/, const PageRun& run, const float* weights, int64_t weight_stride, int rows,
           float* accumulators) const final {
    ValuePage values[kPagesAtOnce];
    for (size_t first = 0; first < run.pages.size(); first += kPagesAtOnce) {
      const auto pages = run.pages.subspan(first, kPagesAtOnce);
      for (size_t p = 0; p < pages.size(); ++p) LoadValues(pages[p], &values[p]);
      const MixRows at = {weights + first * kPageTokens, weight_stride, accumulators, mix_floats()};
      MixPages<kBits, kWide, false>(values, static_cast<int>(pages.size()), head_dim(), at, rows);
    }
  }

  void FinishMix(HeadId /*head*/, const float* accumulators, int rows, float* mixed) const final {
    for (int r = 0; r < rows; ++r) {
      HWY_ALIGN float x[kMaxHeadDim];
      std::copy_n(accumulators + static_cast<int64_t>(r) * head_dim(), head_dim(), x);
      Format::Transform(x, head_dim(), 1);
      for (int d = 0; d < head_dim(); ++d) mixed[static_cast<int64_t>(r) * head_dim() + d] += x[d];
    }
  }

 private:
  static constexpr int kBits = Format::kBits;
  static constexpr bool kWide = Format::kWide, kCenterKeys = Format::kCenterKeys;
  static constexpr int kMost = kMaxRows<kWide>;
  static constexpr int kGroupCodeBytes = kGroup * kPageTokens * kBits / 8;
  static constexpr int kOperandBytes = kGroup * (kWide ? 2 : 1);
  // Of a prepared query's group: operands, their scale, and the integer that takes the keys' offset out of the dot.
  static constexpr int kQueryGroupFloats = kOperandBytes / 4 + 2;

  static int64_t ValueBytes(int head_dim) { return int64_t{head_dim} * (4 * kBits + Format::kScaleBytes); }
  static int64_t KeyBytes(int head_dim) { return ValueBytes(head_dim) + (kCenterKeys ? head_dim * 2 : 0); }
  int64_t code_bytes() const { return int64_t{head_dim()} * 4 * kBits; }
  int64_t mean_bytes() const { return kCenterKeys ? head_dim() * 2 : 0; }

  struct ScoreRows {
    const float* prepared;
    float* scores;
    int64_t score_stride;
  };

  // Takes each channel's mean off. x: [head_dim][32 tokens].
  void Center(float* x, uint16_t* means) const {
    for (int d = 0; d < head_dim(); d += 16) {
      HWY_ALIGN float mean[16];
      for (int i = 0; i < 16; ++i) {
        const float* channel = x + (d + i) * kPageTokens;
        mean[i] = SumLanes(Add(Load(channel), Load(channel + 16)));
      }
      const V16 rounded = RoundToHalf(Mul(Load(mean), Set(1.0f / kPageTokens)));
      Store(rounded, mean);
      StoreHalf(rounded, means + d);
      for (int i = 0; i < 16; ++i) {
        float* channel = x + (d + i) * kPageTokens;
        Store(Sub(Load(channel), Set(mean[i])), channel);
        Store(Sub(Load(channel + 16), Set(mean[i])), channel + 16);
      }
    }
  }

  // x: [head_dim][32 tokens], transformed.
  template <bool kValues>
  void EncodeLevels(const float* x, uint8_t* out, uint8_t* scales) const {
    for (int g = 0; g < groups(); ++g) {
      HWY_ALIGN uint8_t levels[kGroup * kPageTokens];
      for (int t = 0; t < kPageTokens; t += 16) {
        Format::StoreScales(Format::Levels(x + g * kGroup * kPageTokens + t, levels + t),
                            scales + (g * kPageTokens + t) * Format::kScaleBytes);
      }
      if constexpr (kValues) {
        PackCodes<kBits>(levels, 1, kPageTokens, kGroup, 0, out + g * kGroup * 4, int64_t{head_dim()} * 4);
      } else {
        PackCodes<kBits>(levels, kPageTokens, 1, kPageTokens, 1 << (kBits - 1), out + g * kGroupCodeBytes,
                         kPageTokens * 4);
      }
    }
  }

  void LoadValues(const std::byte* page, ValuePage* values) const {
    values->codes = reinterpret_cast<const uint8_t*>(page) + KeyBytes(head_dim());
    const uint8_t* scales = values->codes + code_bytes();
    for (int i = 0; i < head_dim(); i += 16) {
      Store(Format::LoadScales(scales + i * Format::kScaleBytes), values->scales + i);
    }
  }

  // Of one query's 32 channels.
  static void PrepareGroup(const float* x, float* out) {
    auto* operands = reinterpret_cast<uint8_t*>(out);
    out[kOperandBytes / 4] = QuantizePair<true, kWide>(Load(x), Load(x + 16), operands, kGroup);
    int32_t sum = 0;
    for (int i = 0; i < kGroup; ++i) sum += OperandAt<true, kWide>(operands, kGroup, i);
    const int32_t bias = -(1 << (kBits - 1)) * sum;
    std::memcpy(out + kOperandBytes / 4 + 1, &bias, sizeof(bias));
  }

  template <int kRows>
  HWY_INLINE void StartFromMeans(const uint8_t* means, const float* queries, V16 (&sums)[kRows][2]) const {
    V16 lanes[kRows];
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) lanes[r] = Zero();
    for (int d = 0; d < head_dim(); d += 16) {
      const V16 mean = LoadHalf(reinterpret_cast<const uint16_t*>(means) + d);
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        lanes[r] = Fma(Load(queries + r * query_floats() + d), mean, lanes[r]);
      }
    }
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = Set(SumLanes(lanes[r]));
  }

  template <int kRows>
  void ScorePage(const std::byte* page, const ScoreRows& rows, int first_row) const {
    const auto* codes = reinterpret_cast<const uint8_t*>(page);
    const uint8_t* scales = codes + code_bytes() + mean_bytes();
    const int64_t stride = query_floats();
    const float* query = rows.prepared + first_row * stride;
    V16 sums[kRows][2];
    if constexpr (kCenterKeys) {
      StartFromMeans<kRows>(codes + code_bytes(), query + groups() * kQueryGroupFloats, sums);
    } else {
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = Zero();
    }
    for (int g = 0; g < groups(); ++g) {
      I16 dots[kRows][2];
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        int32_t bias;
        std::memcpy(&bias, query + r * stride + kOperandBytes / 4 + 1, sizeof(bias));
        dots[r][0] = dots[r][1] = SetInt(bias);
      }
      const Operands operands = {reinterpret_cast<const uint8_t*>(query), stride * 4, kGroup};
      LaneDots<kBits, false, kWide, kRows>(codes, kPageTokens * 4, kBits, operands, dots);
      const V16 key_scales[2] = {Format::LoadScales(scales), Format::LoadScales(scales + 16 * Format::kScaleBytes)};
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const V16 query_scale = Set(query[r * stride + kOperandBytes / 4]);
        NIBBLE_UNROLL for (int v = 0; v < 2; ++v) {
          sums[r][v] = Fma(ToFloat(dots[r][v]), Mul(query_scale, key_scales[v]), sums[r][v]);
        }
      }
      codes += kGroupCodeBytes, scales += kPageTokens * Format::kScaleBytes, query += kQueryGroupFloats;
    }
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      float* out = rows.scores + (first_row + r) * rows.score_stride;
      Store(sums[r][0], out);
      Store(sums[r][1], out + 16);
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_SYMMETRIC_INL_H_
