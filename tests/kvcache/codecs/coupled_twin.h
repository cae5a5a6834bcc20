// The naive twin of the coupled codecs, straight from the head of coupled.h: one number at a time.
#ifndef NIBBLE_TESTS_KVCACHE_CODECS_COUPLED_TWIN_H_
#define NIBBLE_TESTS_KVCACHE_CODECS_COUPLED_TWIN_H_

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "kvcache/codecs/codec.h"
#include "kvcache/simd/half.h"
#include "kvcache/simd/portable_math.h"
#include "tests/kvcache/codecs/affine_twin.h"

namespace nibble::kv {

class CoupledTwin {
 public:
  // One head of a layer with this rope, codebooks of so many entries.
  CoupledTwin(const HeadCode& keys, const HeadCode& values, int entries, const Rope& rope)
      : keys_(keys), values_(values), entries_(entries), rope_(rope), dim_(static_cast<int>(keys.mean.size())) {}

  int key_bytes() const { return 32 * keys_.groups(); }
  int head_bytes() const { return key_bytes() + 32 * values_.groups(); }

  // Turned back by the first position of the span of eight pages.
  Floats TurnBack(Floats x, int64_t page) const {
    for (int i = 0; i < pairs(); ++i) {
      const simd::SineCosine turn =
          simd::PortableSineCosine(256.0 * static_cast<double>(page / 8) * rope_.frequencies[i]);
      const auto sine = static_cast<float>(turn.sine), cosine = static_cast<float>(turn.cosine);
      float &a = x[First(i)], &b = x[Second(i)];
      const float turned = std::fma(b, sine, a * cosine);
      b = std::fma(-a, sine, b * cosine);
      a = turned;
    }
    return x;
  }

  // key, value: of one token.
  std::vector<int> KeyCodes(const Floats& key, int64_t page) const { return Codes(keys_, TurnBack(key, page)); }
  std::vector<int> ValueCodes(const Floats& value) const { return Codes(values_, value); }

  int KeyCode(const std::byte* page, int group, int t) const {
    return static_cast<int>(page[32 * group + t % 16 / 4 * 8 + t / 16 * 4 + t % 4]);
  }
  int ValueCode(const std::byte* page, int group, int t) const {
    return static_cast<int>(page[key_bytes() + 32 * group + t]);
  }

  // What the bytes stand for, in the frame of the page.
  std::vector<double> Key(const std::byte* page, int t) const {
    return Restore(keys_, [&](int group) { return KeyCode(page, group, t); });
  }
  std::vector<double> Value(const std::byte* page, int t) const {
    return Restore(values_, [&](int group) { return ValueCode(page, group, t); });
  }

  Floats Scores(const std::byte* page, int64_t page_index, const Floats& query) const {
    float scale;
    const Floats q = TurnBack(Scaled(query, &scale), page_index);
    const float bias = Bias(q) * scale;
    const TwinOperands operands = RoundToOperands(Product(q), 127);
    Floats scores;
    for (int t = 0; t < 32; ++t) {
      int64_t sum = 0;
      ForEach(keys_,
              [&](int j, int group) { sum += int64_t{operands.x[j]} * Number(keys_, j, KeyCode(page, group, t)); });
      scores.push_back(std::fma(static_cast<float>(sum), operands.scale * scale, bias));
    }
    return scores;
  }

  // pages: of one span. accumulators: [padded coefficients, then 16].
  void Mix(absl::Span<const std::byte* const> pages, const Floats& weights, Floats* accumulators) const {
    Floats left(32, 0.0f), sums(32, 0.0f);
    std::vector<int> operands;
    bool any = false;
    for (size_t t = 0; t < weights.size(); ++t) {
      const float wanted = std::fma(weights[t], 255.0f, left[t % 32]);
      operands.push_back(static_cast<int>(std::nearbyint(std::min(wanted, 255.0f))));
      left[t % 32] = wanted - static_cast<float>(operands[t]);
      sums[t % 32] += weights[t];
      any = any || weights[t] != 0.0f;
    }
    if (!any) return;
    ForEach(values_, [&](int j, int group) {
      int64_t sum = 0;
      for (size_t t = 0; t < weights.size(); ++t) {
        sum += int64_t{operands[t]} * Number(values_, j, ValueCode(pages[t / 32], group, static_cast<int>(t % 32)));
      }
      (*accumulators)[j] = std::fma(static_cast<float>(sum), 1.0f / 255.0f, (*accumulators)[j]);
    });
    float* lanes = accumulators->data() + accumulators->size() - 16;
    for (int i = 0; i < 16; ++i) {
      const float sum = sums[i] + sums[i + 16];
      if (sum != 0.0f) lanes[i] += sum;
    }
  }
  void FinishMix(const Floats& accumulators, Floats* mixed) const {
    const float weight = TreeSum({accumulators.end() - 16, accumulators.end()});
    for (int i = 0; i < dim_; ++i) {
      float u = 0.0f;
      for (int j = 0; j < values_.coefficients(); ++j) {
        const float synthesis = simd::HalfToFloat(values_.synthesis[i * values_.coefficients() + j]);
        u = std::fma(accumulators[j] * values_.centroid_scale[j], synthesis, u);
      }
      (*mixed)[i] += std::fma(weight, values_.mean[i], u);
    }
  }

 private:
  int pairs() const { return static_cast<int>(rope_.frequencies.size()); }
  int First(int i) const { return rope_.interleaved ? 2 * i : i; }
  int Second(int i) const { return rope_.interleaved ? 2 * i + 1 : i + pairs(); }

  // visit(coefficient, its group)
  template <typename Visit>
  static void ForEach(const HeadCode& code, const Visit& visit) {
    for (int j = 0, group = 0; j < code.coefficients(); ++j) {
      if (j == code.group_ends[group]) ++group;
      visit(j, group);
    }
  }

  // The number that a code stands for.
  int Number(const HeadCode& code, int j, int value) const {
    const int number = code.centroids[j * entries_ + value % entries_];
    return entries_ == 64 && (value & (j % 2 == 0 ? 64 : 128)) != 0 ? -number : number;
  }

  std::vector<int> Codes(const HeadCode& code, const Floats& x) const {
    Floats z;
    for (int j = 0; j < code.coefficients(); ++j) {
      float sum = 0.0f;
      for (int i = 0; i < dim_; ++i)
        sum = std::fma(simd::HalfToFloat(code.analysis[j * dim_ + i]), x[i] - code.mean[i], sum);
      z.push_back(sum);
    }
    std::vector<int> codes;
    for (int g = 0, begin = 0; g < code.groups(); begin = code.group_ends[g++]) {
      codes.push_back(NearestCentroid(code, z, begin, code.group_ends[g]));
    }
    return codes;
  }

  int NearestCentroid(const HeadCode& code, const Floats& z, int begin, int end) const {
    float least = HUGE_VALF;
    int nearest = 0;
    for (int k = 0; k < entries_; ++k) {
      const auto c = [&](int j) {
        return static_cast<float>(code.centroids[j * entries_ + k]) * code.centroid_scale[j];
      };
      float square = 0.0f;
      for (int j = begin; j < end; ++j) square = std::fma(c(j), c(j), square);
      float distance = 0.5f * square, sums[2] = {};
      for (int j = begin; j < end; ++j) {
        float& sum = entries_ == 64 ? sums[(j - begin) % 2] : distance;
        sum = std::fma(entries_ == 64 ? z[j] : -z[j], c(j), sum);
      }
      if (entries_ == 64) distance = (distance - std::abs(sums[0])) - std::abs(sums[1]);
      if (distance < least)
        least = distance, nearest = k + (sums[begin % 2] < 0 ? 64 : 0) + (sums[1 - begin % 2] < 0 ? 128 : 0);
    }
    return nearest;
  }

  template <typename CodeOf>
  std::vector<double> Restore(const HeadCode& code, const CodeOf& code_of) const {
    std::vector<double> x(code.mean.begin(), code.mean.end());
    ForEach(code, [&](int j, int group) {
      const double z = double{code.centroid_scale[j]} * Number(code, j, code_of(group));
      for (int i = 0; i < dim_; ++i) x[i] += simd::HalfToFloat(code.synthesis[i * code.coefficients() + j]) * z;
    });
    return x;
  }

  float Bias(const Floats& q) const {
    Floats lanes(16, 0.0f);
    const auto add = [&](int i, int lane) { lanes[lane % 16] = std::fma(q[i], keys_.mean[i], lanes[lane % 16]); };
    for (int chunk = 0; chunk < pairs(); chunk += 16) {
      for (int i = chunk; i < std::min(chunk + 16, pairs()); ++i) add(First(i), i);
      for (int i = chunk; i < std::min(chunk + 16, pairs()); ++i) add(Second(i), i);
    }
    for (int i = 2 * pairs(); i < dim_; ++i) add(i, i - 2 * pairs());
    return TreeSum(lanes);
  }

  // p.
  Floats Scaled(Floats query, float* scale) const {
    float square = 0.0f;
    for (int i = 0; i < pairs(); ++i) {
      square = std::max(square, std::fma(query[First(i)], query[First(i)], query[Second(i)] * query[Second(i)]));
    }
    for (int i = 2 * pairs(); i < dim_; ++i) square = std::max(square, query[i] * query[i]);
    const float limit = static_cast<float>(std::min(32767, 2147483647 / (2047 * dim_)));
    const float inverse = square < 1e-30f ? 0.0f : limit / std::sqrt(square);
    *scale = square < 1e-30f ? 0.0f : std::sqrt(square) * (1.0f / limit);
    for (float& x : query) x *= inverse;
    return query;
  }
  // y.
  Floats Product(const Floats& q) const {
    Floats y;
    for (int j = 0; j < keys_.coefficients(); ++j) {
      double largest = 0.0;
      for (int i = 0; i < dim_; ++i) largest = std::max(largest, std::abs(Matrix(j, i)));
      const auto row_scale = static_cast<float>(largest / 2047);
      int64_t sum = 0;
      for (int i = 0; i < dim_; ++i) {
        sum +=
            static_cast<int64_t>(std::nearbyint(q[i])) * static_cast<int64_t>(std::nearbyint(Matrix(j, i) / row_scale));
      }
      y.push_back(static_cast<float>(sum) * row_scale);
    }
    return y;
  }
  double Matrix(int j, int i) const {
    return double{simd::HalfToFloat(keys_.synthesis[i * keys_.coefficients() + j])} * keys_.centroid_scale[j];
  }

  const HeadCode& keys_;
  const HeadCode& values_;
  int entries_;
  const Rope& rope_;
  int dim_;
};

}  // namespace nibble::kv

#endif  // NIBBLE_TESTS_KVCACHE_CODECS_COUPLED_TWIN_H_
