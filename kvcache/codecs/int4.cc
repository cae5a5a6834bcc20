// `int4`: keys per channel over the page's 32 tokens, 4-bit codes with an 8-bit scale and an f16 min; values turned by
// a Hadamard matrix, then signed 4-bit levels with 8-bit scales per token and group of 32 channels. 4.75 bits for keys,
// 4.25 for values, 4.5 together. Bytes and reading: channel_keys-inl.h with wide operands, symmetric_values-inl.h with
// narrow ones; byte scales: scales-inl.h.
//
// Keys, per channel, as KIVI's (arXiv 2402.02750): channels are what outlies, and where some models have offsets larger
// than all else, which a transform over the head would carry into every channel. A byte scale and the next are up to an
// eighth apart, so the few near the range's are all tried. Of y, the 32 numbers, with range = largest - least:
//   scales in turn    the smallest byte scale not below range / 15, then the next one below, then the next (at last 0)
//   mins in turn      f16(fma(0.5, max(fma(-15, scale, range), 0), least)), so that both ends are clipped alike; then
//                     f16(fma(1 / 32, sum of e, min)), which fits the codes of the first
//   code = nearest((y - min) / scale), ties to even, within 0 .. 15; 0 where scale is 0
//   e = fma(-scale, code, y - min)
// The first scale and min whose sum of e^2 is least are taken; the first in turn are those of the range alone. f16
// rounds to within +-65504.
//
// Values, transform: the orthonormal Hadamard matrix in Sylvester's order over each block of the largest power of two
// that divides head_dim (64: one block of 64; 96: three of 32): stages of width 1, 2, 4, … replace (a, b) by
// (a + b, a - b), then everything is multiplied by 1 / sqrt(block) as a float. It spreads a head's outlying channels
// over all levels (QuaRot, arXiv 2404.00456, section 4).
//
// Values' levels, per token and group, y the transformed channels: first = max(largest y / 7.5, largest -y / 8.5);
// level = nearest(y / first), ties to even, within -8 .. 7; fit = (sum of level * y) / (sum of level^2), the least
// squares fit to those levels. Of the byte scale at or below it and the next one above that one is taken whose levels
// nearest(y / scale) have the lesser sum of squared errors (y - scale * level)^2, the lower if equal.
//
// All sums start from 0 and run by fused multiply-add (the sum of e by addition), tokens or channels ascending.
#include <cmath>
#include <limits>

#include "kvcache/base/status_macros.h"
#include "kvcache/codecs/affine.h"
#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kvcache/codecs/int4.cc"
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

// x: [block][width].
void Hadamard(float* x, int block, int width) {
  for (int half = 1; half < block; half *= 2) {
    const int step = half * width;
    for (float* pair = x; pair < x + block * width; pair += 2 * step) {
      for (int i = 0; i < step; ++i) {
        const float a = pair[i], b = pair[i + step];
        pair[i] = a + b;
        pair[i + step] = a - b;
      }
    }
  }
  const float norm = 1.0f / std::sqrt(static_cast<float>(block));
  for (int i = 0; i < block * width; ++i) x[i] *= norm;
}

struct Int4Values {
  static constexpr int kBits = 4;
  static constexpr bool kWide = false;

  static void Transform(float* x, int head_dim, int n) {
    const int block = head_dim & -head_dim;
    for (int first = 0; first < head_dim; first += block) Hadamard(x + first * n, block, n);
  }

  static V16 Levels(const float* x, uint8_t* levels) {
    const I16 below = ByteScales::Below(FitScale(x, FirstScale(x)));
    const V16 low = ByteScales::Of(below), high = ByteScales::Of(ByteScales::Away(below, 1));
    const V16 scale = WhereLess(SquaredError(x, high), SquaredError(x, low), high, low);
    for (int i = 0; i < kGroup; ++i) {
      StoreLevels<-8, 7>(Load(x + i * kPageTokens), Zero(), scale, levels + i * kPageTokens);
    }
    return scale;
  }

 private:
  // At which no level is clipped.
  static V16 FirstScale(const float* x) {
    const auto [least, largest] = ExtentOf(x, Zero());
    return Max(Div(largest, Set(7.5f)), Div(least, Set(-8.5f)));
  }

  // The scale that fits the levels of `scale` best.
  static V16 FitScale(const float* x, V16 scale) {
    V16 product = Zero(), square = Zero();
    for (int i = 0; i < kGroup; ++i) {
      const V16 y = Load(x + i * kPageTokens);
      const V16 level = ToFloat(NearestLevels<-8, 7>(y, Zero(), scale));
      product = Fma(level, y, product);
      square = Fma(level, level, square);
    }
    // Where all levels are 0 so is the product.
    return Div(product, Max(square, Set(1.0f)));
  }

  // Of the levels of `scale`.
  static V16 SquaredError(const float* x, V16 scale) {
    V16 sum = Zero();
    const V16 minus_scale = Sub(Zero(), scale);
    for (int i = 0; i < kGroup; ++i) {
      const V16 y = Load(x + i * kPageTokens);
      const V16 error = Fma(minus_scale, ToFloat(NearestLevels<-8, 7>(y, Zero(), scale)), y);
      sum = Fma(error, error, sum);
    }
    return sum;
  }
};

struct Int4Keys {
  static constexpr int kBits = 4;
  static constexpr bool kWide = true;
  using Scales = ByteScales;

  static Line Fit(const float* x, uint8_t* codes) {
    const auto [least, largest] = ExtentOf(x, Load(x));
    Fitted best = {{Zero(), least}, Set(std::numeric_limits<float>::infinity())};
    const V16 range = Sub(largest, least);
    const I16 widest = ByteScales::Above(Div(range, Set(15.0f)));
    for (int narrower = 0; narrower < 3; ++narrower) {
      const V16 scale = ByteScales::Of(ByteScales::Away(widest, -narrower));
      const V16 clipped = Max(Fma(Set(-15.0f), scale, range), Zero());
      Try(x, {scale, RoundToHalf(Fma(Set(0.5f), clipped, least))}, &best);
    }
    for (int i = 0; i < kPageTokens; ++i) {
      StoreLevels<0, 15>(Load(x + 32 * i), best.line.min, best.line.scale, codes + 32 * i);
    }
    return best.line;
  }

 private:
  struct Fitted {
    Line line;
    V16 error;
  };

  // Takes the line where its error is less, then the same scale with the minimum that fits the line's codes best.
  static void Try(const float* x, Line line, Fitted* best) {
    for (int pass = 0; pass < 2; ++pass) {
      const V16 minus_scale = Sub(Zero(), line.scale);
      V16 sum = Zero(), square = Zero();
      for (int i = 0; i < kPageTokens; ++i) {
        const V16 y = Sub(Load(x + 32 * i), line.min);
        const V16 error = Fma(minus_scale, ToFloat(NearestLevels<0, 15>(y, Zero(), line.scale)), y);
        sum = Add(sum, error);
        square = Fma(error, error, square);
      }
      best->line.scale = WhereLess(square, best->error, line.scale, best->line.scale);
      best->line.min = WhereLess(square, best->error, line.min, best->line.min);
      best->error = Min(square, best->error);
      line.min = RoundToHalf(Fma(Set(1.0f / kPageTokens), sum, line.min));
    }
  }
};

std::unique_ptr<PageCodec> NewInt4(const CodecModel& model) {
  return std::make_unique<KeysAndValues<ChannelKeys<Int4Keys>, SymmetricValues<Int4Values>>>(model);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nibble::kv {

absl::StatusOr<std::unique_ptr<PageCodec>> CreateInt4(const CodecModel& model, const Calibration* /*calibration*/,
                                                      simd::Isa isa) {
  NIBBLE_RETURN_IF_ERROR(CheckHeadDim(model.head_dim));
  return NIBBLE_FOR_ISA(isa, NewInt4(model));
}

}  // namespace nibble::kv
#endif  // HWY_ONCE
