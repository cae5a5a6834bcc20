// Keys coded per channel over the page's 32 tokens: a scale times an unsigned code, plus a minimum. kivi.cc, int4.cc
// and int8.cc say which, as Format:
//
//   kBits, kWide           of the codes; whether queries are wide operands (operands-inl.h)
//   Scales                 of scales-inl.h
//   Fit(x, codes) -> Line  x: 32 numbers of 16 groups, those of a group 32 floats apart, finite. Stores codes, those of
//                          a group 32 bytes apart, and returns scales >= 0 and minimums as they are stored
//
// A head's bytes, D = head_dim:
//   codes         packed (affine_codec.h) [D channels][32 tokens]    D * 4 * kBits
//   scales        [D]                                                D * Scales::kBytes
//   minimums      f16 [D]                                            D * 2
// Infinite numbers are coded as the largest finite half, NaN as 0.
//
// Reading. f[d] = query[d] * scale[d] is rounded to operands per row and page with one scale Q. score =
// fma(float(sum over d of x[d] * (code[t][d] - middle)), Q, M); M = the sum of query[d] * zero[d] in sixteen virtual
// lanes, d ascending by fused multiply-add from 0, then SumLanes; zero[d] = fma(middle, scale[d], min[d]). The middle
// is 128 for codes of 8 bits, so that sums fit int32 and operands' rounding meets small numbers, otherwise 0.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_CODECS_CHANNEL_KEYS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_CODECS_CHANNEL_KEYS_INL_H_
#undef NIBBLE_KVCACHE_CODECS_CHANNEL_KEYS_INL_H_
#else
#define NIBBLE_KVCACHE_CODECS_CHANNEL_KEYS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kvcache/codecs/affine_codec.h"
#include "kvcache/codecs/lane_dots-inl.h"
#include "kvcache/codecs/levels-inl.h"
#include "kvcache/codecs/operands-inl.h"

#if HWY_TARGET == HWY_AVX3_DL
NIBBLE_BEFORE_VNNI_NAMESPACE();
#else
HWY_BEFORE_NAMESPACE();
#endif
namespace nibble {
namespace kv {
namespace HWY_NAMESPACE {

using namespace nibble::simd::HWY_NAMESPACE;  // NOLINT: the vector vocabulary of this target

// Codes 0, 1, … stand for min, min + scale, ….
struct Line {
  V16 scale, min;
};

// The codes of 32 by 32 numbers, parameters per row of `in`; codes[i][j] is that of in[j][i].
template <typename Format>
void EncodeSquare(const uint16_t* in, int64_t stride, uint8_t* codes, uint8_t* scales, uint16_t* mins) {
  HWY_ALIGN float x[32 * 32];
  LoadTransposed(in, stride, x);
  for (int j = 0; j < 32; j += 16) {
    const Line line = Format::Fit(x + j, codes + j);
    Format::Scales::Store(line.scale, scales + j * Format::Scales::kBytes);
    StoreHalf(line.min, mins + j);
  }
}

template <typename Format>
class ChannelKeys {
 public:
  explicit ChannelKeys(int head_dim) : head_dim_(head_dim) {}

  struct Page {
    const uint8_t* codes;
    HWY_ALIGN float scales[kMaxHeadDim];
    HWY_ALIGN float zeros[kMaxHeadDim];  // what the middle code stands for
  };

  static int64_t Bytes(int head_dim) { return int64_t{head_dim} * (4 * kBits + Scales::kBytes + 2); }

  void Encode(const uint16_t* raw, uint8_t* out) const {
    uint8_t* scales = out + scales_at();
    auto* mins = reinterpret_cast<uint16_t*>(out + mins_at());
    for (int d = 0; d < head_dim_; d += 32) {
      HWY_ALIGN uint8_t codes[32 * 32];
      EncodeSquare<Format>(raw + d * kPageTokens, kPageTokens, codes, scales + d * Scales::kBytes, mins + d);
      PackCodes<kBits>(codes, 32, kPageTokens, 0, out + d * 4 * kBits, kPageTokens * 4);
    }
  }

  void LoadPage(const uint8_t* sealed, Page* page) const {
    page->codes = sealed;
    const auto* mins = reinterpret_cast<const uint16_t*>(sealed + mins_at());
    for (int d = 0; d < head_dim_; d += 16) {
      const V16 scales = Scales::Load(sealed + scales_at() + d * Scales::kBytes);
      Store(scales, page->scales + d);
      Store(Fma(Set(kMiddle), scales, LoadHalf(mins + d)), page->zeros + d);
    }
  }

  void Score(const Page* pages, int num_pages, const ScoreRows& at, int rows) const {
    constexpr int kMost = kMaxRows<kWide>;
    int row = 0;
    for (; row + kMost <= rows; row += kMost) ScoreBlock<kMost>(pages, num_pages, at, row);
    if constexpr (kMost > 3) {
      for (; row + 3 <= rows; row += 3) ScoreBlock<3>(pages, num_pages, at, row);
    }
    for (; row < rows; ++row) ScoreBlock<1>(pages, num_pages, at, row);
  }

 private:
  using Scales = typename Format::Scales;
  static constexpr int kBits = Format::kBits;
  static constexpr bool kWide = Format::kWide;
  static constexpr int kOperandBytes = kWide ? 2 : 1;
  static constexpr int kMiddle = kBits == 8 ? 128 : 0;
  static_assert(int64_t{kOperandLimit<true, kWide>} * std::max(kMiddle, (1 << kBits) - 1 - kMiddle) * kMaxHeadDim <
                int64_t{1} << 31);

  struct Folded {
    float scale, zero;  // Q and M
    int32_t offset;     // what the middle takes off a dot product
  };

  int64_t scales_at() const { return int64_t{head_dim_} * 4 * kBits; }
  int64_t mins_at() const { return scales_at() + int64_t{head_dim_} * Scales::kBytes; }

  // One query folded into a page's scales.
  HWY_INLINE Folded Fold(const float* query, const Page& page, uint8_t* operands) const {
    I16 largest = SetInt(0);
    V16 zeros = Zero();
    I16 sum = SetInt(0);
    for (int d = 0; d < head_dim_; d += 16) {
      const V16 q = Load(query + d);
      largest = MaxInt(largest, MagnitudeBits(Mul(q, Load(page.scales + d))));
      zeros = Fma(q, Load(page.zeros + d), zeros);
    }
    const OperandScale s = ScaleOfLargest<true, kWide>(LargestLane(largest));
    if (HWY_UNLIKELY(s.scale != s.scale)) {
      std::memset(operands, 0, head_dim_ * kOperandBytes);
    } else {
      const V16 inverse = Set(s.inverse);
      for (int d = 0; d < head_dim_; d += 16) {
        const V16 folded = Mul(Load(query + d), Load(page.scales + d));
        const I16 x = NearestInt(Mul(folded, inverse));
        StoreOperands<true, kWide>(x, d, operands, head_dim_);
        if constexpr (kMiddle != 0) sum = AddInt(sum, x);
      }
    }
    return {s.scale, SumLanes(zeros), kMiddle == 0 ? 0 : -kMiddle * SumLanesInt(sum)};
  }

  // kRows rows from `first_row` on. All queries are folded before any page is scored: folding is a chain of slow steps,
  // and those of different rows and pages overlap.
  template <int kRows>
  void ScoreBlock(const Page* pages, int num_pages, const ScoreRows& rows, int first_row) const {
    constexpr int64_t kRowBytes = kMaxHeadDim * kOperandBytes;
    HWY_ALIGN uint8_t operands[kPagesAtOnce][kRows][kRowBytes];
    Folded folded[kPagesAtOnce][kRows];
    for (int p = 0; p < num_pages; ++p) {
      for (int r = 0; r < kRows; ++r) {
        folded[p][r] = Fold(rows.queries + (first_row + r) * head_dim_, pages[p], operands[p][r]);
      }
    }
    for (int p = 0; p < num_pages; ++p) {
      I16 dots[kRows][2];
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) dots[r][0] = dots[r][1] = SetInt(folded[p][r].offset);
      LaneDots<kBits, false, kWide, kRows>(pages[p].codes, kPageTokens * 4, head_dim_ * kBits / 32,
                                           {operands[p][0], kRowBytes, head_dim_}, dots);
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        float* out = rows.scores + (first_row + r) * rows.score_stride + p * kPageTokens;
        NIBBLE_UNROLL for (int v = 0; v < 2; ++v) {
          Store(Fma(ToFloat(dots[r][v]), Set(folded[p][r].scale), Set(folded[p][r].zero)), out + 16 * v);
        }
      }
    }
  }

  const int head_dim_;
};

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_CHANNEL_KEYS_INL_H_
