// The codes and parameters of `kivi4` and `kivi2` against a plain reference of the paper's quantizer (KIVI, arXiv
// 2402.02750, section 3): keys per channel over the page, values per token over 32 channels.
//
// The reference works in float32. Scale and min are rounded to f16 before any code is computed; codes use the rounded
// ones and round to nearest, ties to even.
#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kvcache/codecs/codec.h"
#include "kvcache/simd/half.h"
#include "tests/kvcache/codecs/affine_twin.h"

namespace nibble::kv {
namespace {

struct Quantized {
  float scale, min;
  std::vector<int> codes;
};

float ToHalf(float a) { return simd::HalfToFloat(simd::FloatToHalf(a)); }

Quantized Reference(const Floats& x, int bits) {
  const float min = *std::min_element(x.begin(), x.end()), max = *std::max_element(x.begin(), x.end());
  const int levels = (1 << bits) - 1;
  Quantized result = {ToHalf((max - min) / static_cast<float>(levels)), ToHalf(min), {}};
  for (const float a : x) {
    const float code = result.scale == 0 ? 0 : std::nearbyint((a - result.min) / result.scale);
    result.codes.push_back(std::clamp(static_cast<int>(code), 0, levels));
  }
  return result;
}

// Numbers of a page, some groups of them at the edges of halves.
std::vector<uint16_t> Page(int head_dim, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<uint16_t> raw(2 * kPageTokens * head_dim);
  for (size_t i = 0; i < raw.size(); ++i) {
    const size_t kind = i / 32 % 8;
    const float number = normal(random);
    raw[i] = simd::FloatToHalf(kind == 0   ? 2.5f
                               : kind == 1 ? number * 0x1p-24f
                               : kind == 2 ? std::copysign(65504.0f, number)
                               : kind == 3 ? 30000.0f * number / 8
                                           : number);
  }
  return raw;
}

class KiviReference : public testing::TestWithParam<int> {};

TEST_P(KiviReference, CodesAndParametersAreThePapers) {
  const int dim = GetParam();
  std::mt19937 random(static_cast<uint32_t>(dim));
  const std::vector<uint16_t> raw = Page(dim, random);
  for (const std::string name : {"kivi4", "kivi2"}) {
    const Twin twin(name, dim);
    for (const simd::Isa isa : simd::SupportedIsas()) {
      SCOPED_TRACE(name + " on " + std::string(simd::Name(isa)));
      CodecModel model;
      model.num_layers = model.num_kv_heads = 1;
      model.head_dim = dim;
      std::vector<std::byte> page(twin.head_bytes());
      (*FindCodec(name)->create(model, nullptr, isa))->Encode({0, 0}, 1, raw.data(), page.data());
      for (int d = 0; d < dim; ++d) {
        Floats channel;
        for (int t = 0; t < kPageTokens; ++t) channel.push_back(simd::HalfToFloat(raw[d * kPageTokens + t]));
        const Quantized want = Reference(channel, twin.bits);
        EXPECT_EQ(twin.KeyParameter(page.data(), d, 0), want.scale) << "channel " << d;
        EXPECT_EQ(twin.KeyParameter(page.data(), d, 1), want.min) << "channel " << d;
        for (int t = 0; t < kPageTokens; ++t) {
          ASSERT_EQ(twin.KeyCode(page.data(), t, d), want.codes[t]) << "channel " << d << ", token " << t;
        }
      }
      for (int t = 0; t < kPageTokens; ++t) {
        for (int first = 0; first < dim; first += 32) {
          Floats group;
          for (int i = 0; i < 32; ++i) {
            group.push_back(simd::HalfToFloat(raw[(kPageTokens + t) * dim + first + i]));
          }
          const Quantized want = Reference(group, twin.bits);
          EXPECT_EQ(twin.ValueParameter(page.data(), t, first, 0), want.scale) << "token " << t;
          EXPECT_EQ(twin.ValueParameter(page.data(), t, first, 1), want.min) << "token " << t;
          for (int i = 0; i < 32; ++i) {
            const int code = twin.ValueCode(page.data(), t, first + i) + (1 << (twin.bits - 1));
            ASSERT_EQ(code, want.codes[i]) << "token " << t << ", channel " << first + i;
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(HeadDims, KiviReference, testing::Values(32, 64, 96, 128, 256));

}  // namespace
}  // namespace nibble::kv
