// `int4`: the head's channels turned by a Hadamard matrix, then signed 4-bit levels, f16 scales per token and group of
// 32 channels; 4.5 bits. Bytes and reading: symmetric-inl.h.
//
// Transform: the orthonormal Hadamard matrix in Sylvester's order over each block of the largest power of two that
// divides head_dim (64: one block of 64; 96: three of 32): stages of width 1, 2, 4, … replace (a, b) by (a + b, a - b),
// then everything is multiplied by 1 / sqrt(block) as a float. It spreads a head's outlying channels over all levels
// (QuaRot, arXiv 2404.00456, section 4).
//
// Encoding, per token and group, y the transformed channels: first = max(largest y / 7.5, largest -y / 8.5);
// level = nearest(y / first), ties to even, within -8 .. 7; scale = f16(sum of level * y / sum of level^2), both sums
// from 0 by fused multiply-add, channels ascending: the least squares fit to those levels. At most 65504, at least 0.
// (For Gaussian y the mean square error is 0.0079 against 0.0094 with largest / 7 and no refit.)
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
  static constexpr bool kWide = false;

  static void Transform(float* x, int head_dim, int width) {
    const int block = head_dim & -head_dim;
    for (int first = 0; first < head_dim; first += block) Hadamard(x + first * width, block, width);
  }

  static V16 Levels(const float* x, uint8_t* levels) {
    V16 largest = Zero(), least = Zero();
    for (int i = 0; i < kGroup; ++i) {
      largest = Max(largest, Load(x + i * kPageTokens));
      least = Min(least, Load(x + i * kPageTokens));
    }
    const V16 first = Max(Div(largest, Set(7.5f)), Div(least, Set(-8.5f)));
    V16 product = Zero(), square = Zero();
    for (int i = 0; i < kGroup; ++i) {
      const V16 y = Load(x + i * kPageTokens);
      StoreLevels<-8, 7>(y, Zero(), first, levels + i * kPageTokens);
      const V16 level = LoadLevels(levels + i * kPageTokens);
      product = Fma(level, y, product);
      square = Fma(level, level, square);
    }
    // Where all levels are 0 so is the product.
    return RoundToHalf(Div(product, Max(square, Set(1.0f))));
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
