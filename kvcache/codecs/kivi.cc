// `kivi4` and `kivi2`: keys per channel over the page's 32 tokens, values per token over groups of 32 channels,
// asymmetric with f16 scale and min; 5 and 3 bits. Source: KIVI, arXiv 2402.02750, section 3, with the page as the
// group of keys (and raw f16 rows for what is not sealed, which is the paper's residual).
//
// Encoding, of 32 numbers: min = the least (a half, as they all are); scale = f16((largest - min) / (2^bits - 1));
// code = nearest((x - min) / scale), ties to even, within 0 .. 2^bits - 1, all in float32 with the rounded scale. Where
// that is 0 all codes are 0. So x is restored as min + scale * code. Infinite numbers are coded as the largest finite
// half, NaN as 0.
//
// A head's bytes, D = head_dim:
//   keys' codes     packed (affine_codec.h) [D channels][32 tokens]                         D * 4 * bits
//   keys' scales, then mins      f16 [D] each                                               D * 4
//   values' codes   packed [32 tokens][D channels], code - 2^(bits - 1) in two's complement D * 4 * bits
//   values' scales, then mins    f16 [D / 32][32 tokens] each                               D * 4
//
// Reading keys: f[d] = query[d] * scale[d] is rounded to operands (operands-inl.h) per row and page with one scale Q.
// score = fma(float(sum over d of x[d] * code[t][d]), Q, M); M = the sum of query[d] * min[d] in sixteen virtual lanes,
// d ascending by fused multiply-add from 0, then SumLanes. kivi4 takes wide operands, kivi2 narrow ones.
//
// Reading values: with h = 2^(bits - 1), value = (min + h * scale) + scale * (code - h), the second part by
// value_mix-inl.h with narrow operands. The first is one number per token and group, z = fma(h, scale, min), and is
// mixed with the weights as they are: lane t mod 16 of the group's sixteen = fma(weight[t], z[t], lane), t ascending,
// tokens of weight 0 left out. Accumulators are [D] of the codes, then [D / 32][16] lanes; FinishMix adds SumLanes of a
// group's lanes to each of its channels.
#include <algorithm>
#include <cstring>

#include "kvcache/base/status_macros.h"
#include "kvcache/codecs/affine.h"
#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kvcache/codecs/kivi.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
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
namespace {

// The codes of 32 by 32 numbers, parameters per row of `in`; codes[i][j] is that of in[j][i].
template <int kBits>
void EncodeSquare(const uint16_t* in, int64_t stride, uint8_t* codes, uint16_t* scales, uint16_t* mins) {
  HWY_ALIGN float x[32 * 32];
  LoadTransposed(in, stride, x);
  for (int j = 0; j < 32; j += 16) {
    V16 least = Load(x + j), largest = least;
    for (int i = 1; i < 32; ++i) {
      least = Min(least, Load(x + 32 * i + j));
      largest = Max(largest, Load(x + 32 * i + j));
    }
    constexpr int kMost = (1 << kBits) - 1;
    const V16 scale = RoundToHalf(Div(Sub(largest, least), Set(kMost)));
    for (int i = 0; i < 32; ++i) StoreLevels<0, kMost>(Load(x + 32 * i + j), least, scale, codes + 32 * i + j);
    StoreHalf(scale, scales + j);
    StoreHalf(least, mins + j);
  }
}

template <int kBits>
class Kivi final : public AffineCodec {
 public:
  explicit Kivi(const CodecModel& model) : AffineCodec(model, 2 * HalfBytes(model.head_dim)) {}

  void Encode(HeadId /*head*/, int64_t /*page_index*/, const uint16_t* raw, std::byte* out) const final {
    auto* keys = reinterpret_cast<uint8_t*>(out);
    uint8_t* values = keys + HalfBytes(head_dim());
    for (int d = 0; d < head_dim(); d += kGroup) {
      HWY_ALIGN uint8_t codes[32 * 32];
      EncodeSquare<kBits>(raw + d * kPageTokens, kPageTokens, codes, Scales(keys) + d, Mins(keys) + d);
      PackCodes<kBits>(codes, 1, 32, kPageTokens, 0, keys + d * 4 * kBits, kPageTokens * 4);
      EncodeSquare<kBits>(raw + head_dim() * kPageTokens + d, head_dim(), codes, Scales(values) + d, Mins(values) + d);
      PackCodes<kBits>(codes, 1, 32, kGroup, kHalf, values + d * 4, int64_t{head_dim()} * 4);
    }
  }

  int64_t query_floats() const final { return head_dim(); }
  void PrepareQueries(HeadId /*head*/, const float* queries, int rows, float* prepared) const final {
    std::copy_n(queries, static_cast<int64_t>(rows) * head_dim(), prepared);
  }

  void Scores(HeadId /*head*/, const PageRun& run, const float* prepared, int rows, float* scores,
              int64_t score_stride) const final {
    KeyPage keys[kPagesAtOnce];
    PrefetchKeys(run.pages.subspan(0, kPagesAtOnce));
    for (size_t first = 0; first < run.pages.size(); first += kPagesAtOnce) {
      const auto pages = run.pages.subspan(first, kPagesAtOnce);
      PrefetchKeys(run.pages.subspan(first + pages.size(), kPagesAtOnce));
      for (size_t p = 0; p < pages.size(); ++p) {
        LoadKeys(pages[p], &keys[p]);
        PrefetchBytes(pages[p] + HalfBytes(head_dim()), HalfBytes(head_dim()));  // values, for Mix
      }
      ScorePages(keys, static_cast<int>(pages.size()), {prepared, scores + first * kPageTokens, score_stride}, rows);
    }
  }

  int64_t mix_floats() const final { return head_dim() + groups() * 16; }

  void Mix(HeadId /*head*/, const PageRun& run, const float* weights, int64_t weight_stride, int rows,
           float* accumulators) const final {
    ValuePage values[kPagesAtOnce];
    for (size_t first = 0; first < run.pages.size(); first += kPagesAtOnce) {
      const auto pages = run.pages.subspan(first, kPagesAtOnce);
      for (size_t p = 0; p < pages.size(); ++p) LoadValues(pages[p], &values[p]);
      const MixRows at = {weights + first * kPageTokens, weight_stride, accumulators, mix_floats()};
      MixPages<kBits, false, true>(values, static_cast<int>(pages.size()), head_dim(), at, rows);
    }
  }

  void FinishMix(HeadId /*head*/, const float* accumulators, int rows, float* mixed) const final {
    for (int r = 0; r < rows; ++r) {
      const float* lanes = accumulators + head_dim();
      for (int d = 0; d < head_dim(); d += kGroup, lanes += 16) {
        const V16 zero = Set(SumLanes(Load(lanes)));
        for (int i = d; i < d + kGroup; i += 16) {
          Store(Add(Load(mixed + i), Add(Load(accumulators + i), zero)), mixed + i);
        }
      }
      accumulators += mix_floats();
      mixed += head_dim();
    }
  }

 private:
  static constexpr bool kWideQueries = kBits == 4;
  static constexpr int kHalf = 1 << (kBits - 1);

  struct KeyPage {
    const uint8_t* codes;
    HWY_ALIGN float scales[kMaxHeadDim];
    HWY_ALIGN float mins[kMaxHeadDim];
  };
  struct ScoreRows {
    const float* queries;
    float* scores;
    int64_t score_stride;
  };

  static int64_t HalfBytes(int head_dim) { return int64_t{head_dim} * (4 * kBits + 4); }
  // Of the keys' or the values' half of a head.
  template <typename Byte>
  auto Scales(Byte* half) const {
    using Half = std::conditional_t<std::is_const_v<Byte>, const uint16_t, uint16_t>;
    return reinterpret_cast<Half*>(half + int64_t{head_dim()} * 4 * kBits);
  }
  template <typename Byte>
  auto Mins(Byte* half) const {
    return Scales(half) + head_dim();
  }

  void PrefetchKeys(absl::Span<const std::byte* const> pages) const {
    for (const std::byte* page : pages) PrefetchBytes(page, HalfBytes(head_dim()));
  }

  void LoadKeys(const std::byte* page, KeyPage* keys) const {
    keys->codes = reinterpret_cast<const uint8_t*>(page);
    for (int d = 0; d < head_dim(); d += 16) {
      Store(LoadHalf(Scales(keys->codes) + d), keys->scales + d);
      Store(LoadHalf(Mins(keys->codes) + d), keys->mins + d);
    }
  }

  void LoadValues(const std::byte* page, ValuePage* values) const {
    values->codes = reinterpret_cast<const uint8_t*>(page) + HalfBytes(head_dim());
    for (int i = 0; i < head_dim(); i += 16) {
      const V16 scales = LoadHalf(Scales(values->codes) + i), mins = LoadHalf(Mins(values->codes) + i);
      Store(scales, values->scales + i);
      Store(Fma(Set(kHalf), scales, mins), values->zero_points + i);
    }
  }

  struct Folded {
    float scale, min;  // Q and M
  };
  // One query folded into a page's scales.
  HWY_INLINE Folded Fold(const float* query, const KeyPage& keys, uint8_t* operands) const {
    I16 largest = SetInt(0);
    V16 mins = Zero();
    for (int d = 0; d < head_dim(); d += 16) {
      const V16 q = Load(query + d);
      largest = MaxInt(largest, MagnitudeBits(Mul(q, Load(keys.scales + d))));
      mins = Fma(q, Load(keys.mins + d), mins);
    }
    const OperandScale s = ScaleOfLargest<true, kWideQueries>(LargestLane(largest));
    if (HWY_UNLIKELY(s.scale != s.scale)) {
      std::memset(operands, 0, head_dim() * kOperandBytes);
    } else {
      const V16 inverse = Set(s.inverse);
      for (int d = 0; d < head_dim(); d += 16) {
        const V16 folded = Mul(Load(query + d), Load(keys.scales + d));
        StoreOperands<true, kWideQueries>(NearestInt(Mul(folded, inverse)), d, operands, head_dim());
      }
    }
    return {s.scale, SumLanes(mins)};
  }

  // kRows rows from `first_row` on. All queries are folded before any page is scored: folding is a chain of slow steps,
  // and those of different rows and pages overlap.
  template <int kRows>
  void ScoreBlock(const KeyPage* pages, int num_pages, const ScoreRows& rows, int first_row) const {
    constexpr int64_t kRowBytes = kMaxHeadDim * kOperandBytes;
    HWY_ALIGN uint8_t operands[kPagesAtOnce][kRows][kRowBytes];
    Folded folded[kPagesAtOnce][kRows];
    for (int p = 0; p < num_pages; ++p) {
      for (int r = 0; r < kRows; ++r) {
        folded[p][r] = Fold(rows.queries + (first_row + r) * head_dim(), pages[p], operands[p][r]);
      }
    }
    for (int p = 0; p < num_pages; ++p) {
      I16 dots[kRows][2];
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) dots[r][0] = dots[r][1] = SetInt(0);
      LaneDots<kBits, false, kWideQueries, kRows>(pages[p].codes, kPageTokens * 4, head_dim() * kBits / 32,
                                                  {operands[p][0], kRowBytes, head_dim()}, dots);
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        float* out = rows.scores + (first_row + r) * rows.score_stride + p * kPageTokens;
        NIBBLE_UNROLL for (int v = 0; v < 2; ++v) {
          Store(Fma(ToFloat(dots[r][v]), Set(folded[p][r].scale), Set(folded[p][r].min)), out + 16 * v);
        }
      }
    }
  }

  void ScorePages(const KeyPage* pages, int num_pages, const ScoreRows& at, int rows) const {
    constexpr int kMost = kMaxRows<kWideQueries>;
    int row = 0;
    for (; row + kMost <= rows; row += kMost) ScoreBlock<kMost>(pages, num_pages, at, row);
    if constexpr (kMost > 3) {
      for (; row + 3 <= rows; row += 3) ScoreBlock<3>(pages, num_pages, at, row);
    }
    for (; row < rows; ++row) ScoreBlock<1>(pages, num_pages, at, row);
  }

  static constexpr int kOperandBytes = kWideQueries ? 2 : 1;
};

template <int kBits>
std::unique_ptr<PageCodec> NewKivi(const CodecModel& model) {
  return std::make_unique<Kivi<kBits>>(model);
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
