// Naive twins of the affine codecs, straight from the heads of int8.cc, int4.cc, kivi.cc and what they point to: one
// number at a time, reading sealed bytes.
#ifndef NIBBLE_TESTS_KVCACHE_CODECS_AFFINE_TWIN_H_
#define NIBBLE_TESTS_KVCACHE_CODECS_AFFINE_TWIN_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kvcache/page.h"
#include "kvcache/simd/half.h"

namespace nibble::kv {

using Floats = std::vector<float>;

inline float HalfAt(const std::byte* at, int64_t index) {
  uint16_t half;
  std::memcpy(&half, at + 2 * index, sizeof(half));
  return simd::HalfToFloat(half);
}

// Code (n, lane) of a packed matrix [.][lanes].
inline int PackedCode(const std::byte* packed, int bits, int lanes, int n, int lane) {
  const int per_block = 32 / bits;
  const int field = n % per_block / 4, j = n % 4;
  const auto byte = static_cast<int>(packed[(n / per_block * lanes + lane) * 4 + j]);
  return (byte >> (field * bits)) % (1 << bits);
}
inline int SignedCode(int code, int bits) { return code >= 1 << (bits - 1) ? code - (1 << bits) : code; }

// Five bits of exponent with a bias of 15, three of fraction.
inline float SmallScale(std::byte code) {
  const int exponent = static_cast<int>(code) / 8, fraction = static_cast<int>(code) % 8;
  return static_cast<float>(exponent == 0 ? std::ldexp(fraction, -17) : std::ldexp(8 + fraction, exponent - 18));
}

struct TwinOperands {
  std::vector<int> x;
  float scale;
};
inline TwinOperands RoundToOperands(const Floats& v, float limit) {
  float largest = 0.0f;
  for (float a : v) largest = std::max(largest, std::abs(a));
  if (largest < 1e-30f) return {std::vector<int>(v.size()), -0.0f};
  TwinOperands result = {{}, largest * (1.0f / limit)};
  for (float a : v) result.x.push_back(static_cast<int>(std::nearbyint(a * (limit / largest))));
  return result;
}

// Sixteen lanes to one, lane i joining i + 8, + 4, + 2, + 1.
inline float TreeSum(Floats lanes) {
  for (size_t width = 8; width > 0; width /= 2) {
    for (size_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

// Halves first, then the two against each other: the stages of width 1, 2, 4, ….
inline Floats Butterflies(const Floats& x) {
  if (x.size() == 1) return x;
  const auto middle = x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2);
  const Floats a = Butterflies({x.begin(), middle}), b = Butterflies({middle, x.end()});
  Floats result;
  for (size_t i = 0; i < a.size(); ++i) result.push_back(a[i] + b[i]);
  for (size_t i = 0; i < a.size(); ++i) result.push_back(a[i] - b[i]);
  return result;
}
inline Floats TwinHadamard(const Floats& x) {
  size_t block = 1;
  while (x.size() % (2 * block) == 0) block *= 2;
  Floats result;
  for (size_t first = 0; first < x.size(); first += block) {
    const auto begin = x.begin() + static_cast<std::ptrdiff_t>(first);
    for (float a : Butterflies({begin, begin + static_cast<std::ptrdiff_t>(block)})) {
      result.push_back(a * (1.0f / std::sqrt(static_cast<float>(block))));
    }
  }
  return result;
}

// One head of one codec.
class Twin {
 public:
  Twin(const std::string& name, int head_dim)
      : dim(head_dim),
        kivi(name[0] == 'k'),
        rotated(name == "int4"),
        bits(name.back() - '0'),
        query_limit(name == "kivi2" ? 127.0f : 32512.0f),
        weight_limit(name == "int8" ? 32767.0f : 255.0f) {}

  int64_t key_bytes() const { return int64_t{dim} * (4 * bits + (kivi ? 4 : 3)); }
  int64_t value_bytes() const { return int64_t{dim} * (4 * bits + (kivi ? 4 : 1)); }
  int64_t head_bytes() const { return key_bytes() + value_bytes(); }
  int64_t mix_floats() const { return kivi ? dim + dim / 2 : dim; }

  // Codes as they multiply, and parameters.
  int KeyCode(const std::byte* page, int t, int d) const { return PackedCode(page, bits, kPageTokens, d, t); }
  int ValueCode(const std::byte* page, int t, int d) const {
    return SignedCode(PackedCode(page + key_bytes(), bits, dim, t, d), bits);
  }
  // `which` 0: the scale, of channel d or of token t in channel d's group. 1: the min, where the codec has them.
  float KeyParameter(const std::byte* page, int d, int which = 0) const {
    const std::byte* at = page + dim * 4 * bits;
    if (kivi) return HalfAt(at, which * dim + d);
    return which == 0 ? SmallScale(at[d]) : HalfAt(at + dim, d);
  }
  float ValueParameter(const std::byte* page, int t, int d, int which = 0) const {
    const std::byte* at = page + key_bytes() + dim * 4 * bits;
    return kivi ? HalfAt(at, which * dim + d / 32 * 32 + t) : SmallScale(at[d / 32 * 32 + t]);
  }

  Floats Scores(const std::byte* page, const Floats& query) const {
    const int middle = bits == 8 ? 128 : 0;
    Floats folded, lanes(16, 0.0f), scores;
    for (int d = 0; d < dim; ++d) {
      folded.push_back(query[d] * KeyParameter(page, d));
      const float zero = std::fma(static_cast<float>(middle), KeyParameter(page, d), KeyParameter(page, d, 1));
      lanes[d % 16] = std::fma(query[d], zero, lanes[d % 16]);
    }
    const TwinOperands operands = RoundToOperands(folded, query_limit);
    for (int t = 0; t < kPageTokens; ++t) {
      int64_t dot = 0;
      for (int d = 0; d < dim; ++d) dot += operands.x[d] * (KeyCode(page, t, d) - middle);
      scores.push_back(std::fma(static_cast<float>(dot), operands.scale, TreeSum(lanes)));
    }
    return scores;
  }

  void Mix(const std::byte* page, const Floats& weights, Floats* accumulators) const {
    for (int g = 0; g < dim / 32; ++g) {
      Floats scaled;
      for (int t = 0; t < kPageTokens; ++t) scaled.push_back(weights[t] * ValueParameter(page, t, 32 * g));
      const TwinOperands operands = RoundToOperands(scaled, weight_limit);
      for (int d = 32 * g; d < 32 * g + 32; ++d) {
        int64_t dot = 0;
        for (int t = 0; t < kPageTokens; ++t) dot += operands.x[t] * ValueCode(page, t, d);
        float& sum = (*accumulators)[d];
        sum = std::fma(static_cast<float>(dot), operands.scale, sum);
      }
      for (int t = 0; kivi && t < kPageTokens; ++t) {
        const float half = static_cast<float>(1 << (bits - 1));
        const float zero = std::fma(half, ValueParameter(page, t, 32 * g), ValueParameter(page, t, 32 * g, 1));
        float& lane = (*accumulators)[dim + 16 * g + t % 16];
        if (weights[t] != 0) lane = std::fma(weights[t], zero, lane);
      }
    }
  }

  void FinishMix(const Floats& accumulators, Floats* mixed) const {
    const Floats turned = rotated ? TwinHadamard(accumulators) : accumulators;
    for (int d = 0; d < dim; ++d) {
      if (!kivi) {
        (*mixed)[d] += turned[d];
        continue;
      }
      const auto lanes = accumulators.begin() + dim + d / 32 * 16;
      (*mixed)[d] += accumulators[d] + TreeSum({lanes, lanes + 16});
    }
  }

  // What the sealed bytes stand for, before any reader rounds.
  Floats Key(const std::byte* page, int t) const {
    Floats key;
    for (int d = 0; d < dim; ++d) {
      key.push_back(KeyParameter(page, d) * static_cast<float>(KeyCode(page, t, d)) + KeyParameter(page, d, 1));
    }
    return key;
  }
  Floats Value(const std::byte* page, int t) const {
    Floats value;
    for (int d = 0; d < dim; ++d) {
      const int code = ValueCode(page, t, d) + (kivi ? 1 << (bits - 1) : 0);
      const float product = ValueParameter(page, t, d) * static_cast<float>(code);
      value.push_back(kivi ? product + ValueParameter(page, t, d, 1) : product);
    }
    return rotated ? TwinHadamard(value) : value;
  }

  const int dim;
  const bool kivi, rotated;  // rotated: values
  const int bits;
  const float query_limit, weight_limit;
};

}  // namespace nibble::kv

#endif  // NIBBLE_TESTS_KVCACHE_CODECS_AFFINE_TWIN_H_
