// The codes and parameters of `int8` and `int4` against plain references of the heads of int8.cc and int4.cc, on every
// instruction set, and that the search of `int4` never does worse than the least and the largest number of a group
// would.
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

constexpr int kGroupSize = 32;

struct Quantized {
  float scale, min;
  std::vector<int> codes;
};

float ToHalf(float a) { return simd::HalfToFloat(simd::FloatToHalf(std::clamp(a, -65504.0f, 65504.0f))); }
float ScaleOf(int byte) { return SmallScale(static_cast<std::byte>(std::clamp(byte, 0, 255))); }

// The greatest not above.
int ScaleByte(float scale) {
  int byte = 0;
  while (byte < 255 && ScaleOf(byte + 1) <= scale) ++byte;
  return byte;
}

// The least not below.
float ScaleAbove(float scale) {
  const int byte = ScaleByte(scale);
  return ScaleOf(ScaleOf(byte) < scale ? byte + 1 : byte);
}

int LevelOf(float a, float scale, int least, int most) {
  const float code = scale == 0 ? 0 : std::nearbyint(std::clamp(a / scale, -1000.0f, 1000.0f));
  return std::clamp(static_cast<int>(code), least, most);
}

struct Residue {
  float sum, square;
};
Residue ResidueOf(const Floats& x, float scale, float min, int least, int most) {
  Residue result = {0.0f, 0.0f};
  for (const float a : x) {
    const float y = a - min;
    const float error = std::fma(-scale, static_cast<float>(LevelOf(y, scale, least, most)), y);
    result.sum += error;
    result.square = std::fma(error, error, result.square);
  }
  return result;
}

Quantized KeyReference(const Floats& x) {
  const float least = *std::min_element(x.begin(), x.end()), range = *std::max_element(x.begin(), x.end()) - least;
  const int widest = ScaleByte(ScaleAbove(range / 15));
  Quantized best = {0.0f, least, {}};
  float best_square = HUGE_VALF;
  for (int narrower = 0; narrower < 3; ++narrower) {
    const float scale = ScaleOf(widest - narrower);
    float min = ToHalf(std::fma(0.5f, std::max(std::fma(-15.0f, scale, range), 0.0f), least));
    for (int pass = 0; pass < 2; ++pass) {
      const Residue residue = ResidueOf(x, scale, min, 0, 15);
      if (residue.square < best_square) {
        best_square = residue.square;
        best.scale = scale, best.min = min;
      }
      min = ToHalf(std::fma(1.0f / 32, residue.sum, min));
    }
  }
  for (const float a : x) best.codes.push_back(LevelOf(a - best.min, best.scale, 0, 15));
  return best;
}

// y: transformed.
Quantized ValueReference(const Floats& y) {
  const float largest = std::max(*std::max_element(y.begin(), y.end()), 0.0f);
  const float least = std::min(*std::min_element(y.begin(), y.end()), 0.0f);
  const float first = std::max(largest / 7.5f, least / -8.5f);
  float product = 0.0f, square = 0.0f;
  for (const float a : y) {
    const auto level = static_cast<float>(LevelOf(a, first, -8, 7));
    product = std::fma(level, a, product);
    square = std::fma(level, level, square);
  }
  const int below = ScaleByte(product / std::max(square, 1.0f));
  const float low = ScaleOf(below), high = ScaleOf(below + 1);
  const bool lower = ResidueOf(y, low, 0.0f, -8, 7).square <= ResidueOf(y, high, 0.0f, -8, 7).square;
  Quantized result = {lower ? low : high, 0.0f, {}};
  for (const float a : y) result.codes.push_back(LevelOf(a, result.scale, -8, 7));
  return result;
}

// Numbers of a page, groups of a few kinds: plain, with an offset, at the edges of halves, constant, no numbers.
std::vector<uint16_t> Page(int head_dim, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<uint16_t> raw(2 * kPageTokens * head_dim);
  for (size_t i = 0; i < raw.size(); ++i) {
    const float number = normal(random);
    const float kinds[] = {2.5f,
                           number * 0x1p-24f,
                           std::copysign(65504.0f, number),
                           30000.0f * number / 8,
                           number,
                           100.0f + number,
                           -40000.0f + 8 * number,
                           number * 0x1p-15f,
                           i % 5 == 0 ? -HUGE_VALF : number,
                           i % 7 == 0 ? NAN : number};
    raw[i] = simd::FloatToHalf(kinds[i / 32 % 10]);
  }
  return raw;
}

float Finite(uint16_t half) {
  const float a = simd::HalfToFloat(half);
  return std::isnan(a) ? 0.0f : std::clamp(a, -65504.0f, 65504.0f) + 0.0f;
}
Floats Channel(const std::vector<uint16_t>& raw, int d) {
  Floats channel;
  for (int t = 0; t < kPageTokens; ++t) channel.push_back(Finite(raw[d * kPageTokens + t]));
  return channel;
}

class IntReference : public testing::TestWithParam<int> {
 protected:
  explicit IntReference(const std::string& name)
      : name_(name), random_(static_cast<uint32_t>(dim())), twin_(name, dim()), raw_(Page(dim(), random_)) {}

  static int dim() { return GetParam(); }

  // Calls check(sealed page) on every instruction set.
  template <typename Check>
  void ForEachIsa(const Check& check) {
    for (const simd::Isa isa : simd::SupportedIsas()) {
      SCOPED_TRACE(std::string(simd::Name(isa)));
      CodecModel model;
      model.num_layers = model.num_kv_heads = 1;
      model.head_dim = dim();
      std::vector<std::byte> page(twin_.head_bytes());
      (*FindCodec(name_)->create(model, nullptr, isa))->Encode({0, 0}, 1, raw_.data(), page.data());
      check(page.data());
    }
  }

  const std::string name_;
  std::mt19937 random_;
  Twin twin_;
  std::vector<uint16_t> raw_;
};

class Int4Reference : public IntReference {
 protected:
  Int4Reference() : IntReference("int4") {}
};

class Int8Reference : public IntReference {
 protected:
  Int8Reference() : IntReference("int8") {}
};

TEST_P(Int8Reference, KeysSpanTheirChannel) {
  ForEachIsa([&](const std::byte* page) {
    for (int d = 0; d < dim(); ++d) {
      const Floats channel = Channel(raw_, d);
      const float least = *std::min_element(channel.begin(), channel.end());
      const float scale = ScaleAbove((*std::max_element(channel.begin(), channel.end()) - least) / 255);
      EXPECT_EQ(twin_.KeyParameter(page, d, 0), scale) << "channel " << d;
      EXPECT_EQ(twin_.KeyParameter(page, d, 1), least) << "channel " << d;
      for (int t = 0; t < kPageTokens; ++t) {
        const int want = LevelOf(channel[t] - least, scale, 0, 255);
        ASSERT_EQ(twin_.KeyCode(page, t, d), want) << "channel " << d << ", token " << t;
      }
    }
  });
}

TEST_P(Int8Reference, ValuesSpanTheirGroup) {
  ForEachIsa([&](const std::byte* page) {
    for (int t = 0; t < kPageTokens; ++t) {
      for (int first = 0; first < dim(); first += kGroupSize) {
        Floats group;
        for (int i = 0; i < kGroupSize; ++i) group.push_back(Finite(raw_[(kPageTokens + t) * dim() + first + i]));
        float largest = 0.0f;
        for (const float a : group) largest = std::max(largest, std::abs(a));
        const float scale = ScaleAbove(largest / 127);
        EXPECT_EQ(twin_.ValueParameter(page, t, first), scale) << "token " << t;
        for (int i = 0; i < kGroupSize; ++i) {
          const int want = LevelOf(group[i], scale, -127, 127);
          ASSERT_EQ(twin_.ValueCode(page, t, first + i), want) << "token " << t << ", channel " << first + i;
        }
      }
    }
  });
}

TEST_P(Int4Reference, KeysAreThoseOfTheSearch) {
  ForEachIsa([&](const std::byte* page) {
    for (int d = 0; d < dim(); ++d) {
      const Quantized want = KeyReference(Channel(raw_, d));
      EXPECT_EQ(twin_.KeyParameter(page, d, 0), want.scale) << "channel " << d;
      EXPECT_EQ(twin_.KeyParameter(page, d, 1), want.min) << "channel " << d;
      for (int t = 0; t < kPageTokens; ++t) {
        ASSERT_EQ(twin_.KeyCode(page, t, d), want.codes[t]) << "channel " << d << ", token " << t;
      }
    }
  });
}

TEST_P(Int4Reference, ValuesAreThoseOfTheFit) {
  ForEachIsa([&](const std::byte* page) {
    for (int t = 0; t < kPageTokens; ++t) {
      Floats value;
      for (int d = 0; d < dim(); ++d) value.push_back(Finite(raw_[(kPageTokens + t) * dim() + d]));
      value = TwinHadamard(value);
      for (int first = 0; first < dim(); first += kGroupSize) {
        const Quantized want = ValueReference({value.begin() + first, value.begin() + first + kGroupSize});
        EXPECT_EQ(twin_.ValueParameter(page, t, first), want.scale) << "token " << t;
        for (int i = 0; i < kGroupSize; ++i) {
          ASSERT_EQ(twin_.ValueCode(page, t, first + i), want.codes[i]) << "token " << t << ", channel " << first + i;
        }
      }
    }
  });
}

// The line from the least number at the smallest scale that reaches the largest.
float PlainSquaredError(const Floats& x) {
  const float least = *std::min_element(x.begin(), x.end()), step = *std::max_element(x.begin(), x.end()) - least;
  int byte = 0;
  while (ScaleOf(byte) < step / 15) ++byte;
  return ResidueOf(x, ScaleOf(byte), least, 0, 15).square;
}

TEST_P(Int4Reference, NoChannelIsWorseThanByItsRange) {
  ForEachIsa([&](const std::byte* page) {
    double plain = 0, fitted = 0;
    for (int d = 0; d < dim(); ++d) {
      const Floats channel = Channel(raw_, d);
      const float scale = twin_.KeyParameter(page, d, 0), min = twin_.KeyParameter(page, d, 1);
      const float error = ResidueOf(channel, scale, min, 0, 15).square, limit = PlainSquaredError(channel);
      EXPECT_LE(error, limit) << "channel " << d;
      if (limit == 0) continue;
      plain += 1;
      fitted += error / limit;
    }
    EXPECT_LT(fitted, 0.9 * plain);
  });
}

INSTANTIATE_TEST_SUITE_P(HeadDims, Int8Reference, testing::Values(32, 64, 96, 128, 256));
INSTANTIATE_TEST_SUITE_P(HeadDims, Int4Reference, testing::Values(32, 64, 96, 128, 256));

}  // namespace
}  // namespace nibble::kv
