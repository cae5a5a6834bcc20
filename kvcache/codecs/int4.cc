// `int4`: the head's channels turned by a Hadamard matrix, keys less their page's mean, then signed 4-bit levels with
// 8-bit scales per token and group of 32 channels; 4.75 bits for keys, 4.25 for values, 4.5 together. Bytes and
// reading: symmetric-inl.h.
//
// Transform: the orthonormal Hadamard matrix in Sylvester's order over each block of the largest power of two that
// divides head_dim (64: one block of 64; 96: three of 32): stages of width 1, 2, 4, … replace (a, b) by (a + b, a - b),
// then everything is multiplied by 1 / sqrt(block) as a float. It spreads a head's outlying channels over all levels
// (QuaRot, arXiv 2404.00456, section 4). What it cannot spread is what all tokens of a page share, in some models most
// of a key: so that is kept apart, in f16 per channel and page, and paid for by scales of 8 bits in place of 16. Nine
// tenths of what 4 bits cost a model is the error of keys, and without their mean it is a third.
//
// A scale is the upper bits of a half without its sign: byte u, five bits of exponent and three of fraction, stands for
// the half whose bits are u << 7, the largest exponent being an ordinary one.
//
// Encoding, per token and group, y the transformed channels: first = max(largest y / 7.5, largest -y / 8.5);
// level = nearest(y / first), ties to even, within -8 .. 7; fit = (sum of level * y) / (sum of level^2), the least
// squares fit to those levels. Of the two scales next to it (byte u at or below, u at most 254, and u + 1) that one is
// taken whose levels nearest(y / scale) have the lesser sum of squared errors (y - scale * level)^2, the lower if
// equal. All sums start from 0 and run by fused multiply-add, channels ascending.
#include <cmath>

#include "kvcache/base/status_macros.h"
#include "kvcache/codecs/affine.h"
#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kvcache/codecs/int4.cc"
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

struct Int4 {
  static constexpr int kBits = 4;
  static constexpr bool kWide = false, kCenterKeys = true;
  static constexpr int kScaleBytes = 1;

  static void Transform(float* x, int head_dim, int width) {
    const int block = head_dim & -head_dim;
    for (int first = 0; first < head_dim; first += block) Hadamard(x + first * width, block, width);
  }

  static V16 LoadScales(const uint8_t* p) {
    const hn::Rebind<uint8_t, I> bytes;
    I16 codes;
    NIBBLE_PARTS codes.v[i] = hn::PromoteTo(I(), hn::LoadU(bytes, p + i * kLanes));
    return Scales(codes);
  }
  static void StoreScales(V16 scales, uint8_t* p) { StoreNarrowed(ScaleCodes(scales), p); }

  static V16 Levels(const float* x, uint8_t* levels) {
    V16 largest = Zero(), least = Zero();
    for (int i = 0; i < kGroup; ++i) {
      largest = Max(largest, Load(x + i * kPageTokens));
      least = Min(least, Load(x + i * kPageTokens));
    }
    const V16 fit = Fit(x, Max(Div(largest, Set(7.5f)), Div(least, Set(-8.5f))), levels);
    I16 below = ScaleCodes(fit), above;
    NIBBLE_PARTS {
      below.v[i] = hn::Min(below.v[i], hn::Set(I(), 254));
      above.v[i] = hn::Add(below.v[i], hn::Set(I(), 1));
    }
    const V16 low = Scales(below), high = Scales(above);
    const V16 low_error = SquaredError(x, low, levels), high_error = SquaredError(x, high, levels);
    V16 scale;
    NIBBLE_PARTS scale.v[i] = hn::IfThenElse(hn::Lt(high_error.v[i], low_error.v[i]), high.v[i], low.v[i]);
    SquaredError(x, scale, levels);
    return scale;
  }

 private:
  // The scales of codes, and the codes of the greatest scales not above. The exponents of halves and floats differ by
  // 112.
  static V16 Scales(I16 codes) {
    V16 r;
    NIBBLE_PARTS r.v[i] = hn::BitCast(F(), hn::ShiftLeft<20>(codes.v[i]));
    return Mul(r, Set(0x1p112f));
  }
  static I16 ScaleCodes(V16 scales) {
    const V16 scaled = Mul(scales, Set(0x1p-112f));
    I16 r;
    NIBBLE_PARTS r.v[i] = hn::ShiftRight<20>(hn::BitCast(I(), scaled.v[i]));
    return r;
  }

  // Stores the levels of `scale` and returns the scale that fits them best.
  static V16 Fit(const float* x, V16 scale, uint8_t* levels) {
    V16 product = Zero(), square = Zero();
    for (int i = 0; i < kGroup; ++i) {
      const V16 y = Load(x + i * kPageTokens);
      StoreLevels<-8, 7>(y, Zero(), scale, levels + i * kPageTokens);
      const V16 level = LoadLevels(levels + i * kPageTokens);
      product = Fma(level, y, product);
      square = Fma(level, level, square);
    }
    // Where all levels are 0 so is the product.
    return Div(product, Max(square, Set(1.0f)));
  }

  // Stores the levels of `scale` and returns the sum of their squared errors.
  static V16 SquaredError(const float* x, V16 scale, uint8_t* levels) {
    V16 sum = Zero();
    const V16 minus_scale = Sub(Zero(), scale);
    for (int i = 0; i < kGroup; ++i) {
      const V16 y = Load(x + i * kPageTokens);
      StoreLevels<-8, 7>(y, Zero(), scale, levels + i * kPageTokens);
      const V16 error = Fma(minus_scale, LoadLevels(levels + i * kPageTokens), y);
      sum = Fma(error, error, sum);
    }
    return sum;
  }
};

std::unique_ptr<PageCodec> NewInt4(const CodecModel& model) { return std::make_unique<SymmetricCodec<Int4>>(model); }

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
