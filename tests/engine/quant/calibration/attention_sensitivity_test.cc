// What a forward pass says about keys and values, against the formulas of the header in double precision.
#include "engine/quant/calibration/attention_sensitivity.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

#include "engine/quant/calibration/sensitivity_kernels.h"
#include "gmock/gmock.h"

namespace nibble::engine {
namespace {

constexpr int kDim = 16;
using Doubles = std::vector<double>;
using Floats = std::vector<float>;

struct Case {
  const char* name;
  int64_t tokens;
  SealedRule rule;
  int64_t window;  // of attention
  float softcap;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

// One head with what attention makes of it. Rows lie `kStride` apart, as in a batch.
struct Head {
  static constexpr int64_t kStride = kDim + 5;

  Head(const Case& c, uint32_t seed) : random(seed), shape(c) {
    rope.frequencies = {1.0, 0.3, 0.1, 0.03};  // the other eight channels do not turn
    keys = Normal(c.tokens * kStride);
    values = Normal(c.tokens * kStride);
    queries = Normal(c.tokens * kStride);
    for (int64_t i = 0; i < c.tokens; ++i) shares.push_back(std::exp2(static_cast<float>(i % 5) - 2));
    const Floats root = Normal(kDim * 8);
    gram.resize(kDim * kDim);
    for (int i = 0; i < kDim; ++i) {
      for (int j = 0; j < kDim; ++j) {
        for (int k = 0; k < 8; ++k) gram[static_cast<size_t>(i * kDim + j)] += root[i * 8 + k] * root[j * 8 + k];
      }
    }
    Attend();
  }

  Floats Normal(int64_t count) {
    std::normal_distribution<float> normal;
    Floats x(static_cast<size_t>(count));
    for (float& a : x) a = normal(random);
    return x;
  }

  static double Dot(const float* a, const float* b) {
    double sum = 0.0;
    for (int d = 0; d < kDim; ++d) sum += double{a[d]} * b[d];
    return sum;
  }

  void Attend() {
    probabilities.clear();
    outputs.resize(queries.size());
    for (int64_t i = 0; i < shape.tokens; ++i) {
      Doubles p(static_cast<size_t>(shape.tokens));
      double total = 0.0;
      for (int64_t t = shape.window > 0 ? std::max<int64_t>(0, i - shape.window + 1) : 0; t <= i; ++t) {
        double score = scale * Dot(&queries[static_cast<size_t>(i * kStride)], &keys[static_cast<size_t>(t * kStride)]);
        if (shape.softcap > 0) score = shape.softcap * std::tanh(score / shape.softcap);
        total += p[static_cast<size_t>(t)] = std::exp(score);
      }
      for (double& x : p) x /= total;
      for (int d = 0; d < kDim; ++d) {
        double sum = 0.0;
        for (int64_t t = 0; t <= i; ++t)
          sum += p[static_cast<size_t>(t)] * values[static_cast<size_t>(t * kStride + d)];
        outputs[static_cast<size_t>(i * kStride + d)] = static_cast<float>(sum);
      }
      probabilities.push_back(std::move(p));
    }
  }

  QueryHeadSensitivity Measure(int query_stride, uint64_t seed, simd::Isa isa = simd::SupportedIsas().back()) const {
    const KvBlocks blocks({shape.tokens, kDim, {keys.data(), kStride}, {values.data(), kStride}});
    QueryHeadTrace trace;
    trace.queries = {queries.data(), kStride};
    trace.outputs = {outputs.data(), kStride};
    trace.gram = gram;
    trace.shares = shares;
    trace.scale = scale;
    trace.softcap = shape.softcap;
    trace.window = shape.window;
    return MeasureQueryHead(blocks, trace, SpanFrame(rope, blocks.pages()), shape.rule, query_stride, seed, isa);
  }

  // (v_t - o_i) G (v_t - o_i)
  double Energy(int64_t i, int64_t t) const {
    double sum = 0.0;
    const auto at = [&](int d) {
      return double{values[static_cast<size_t>(t * kStride + d)]} - outputs[static_cast<size_t>(i * kStride + d)];
    };
    for (int a = 0; a < kDim; ++a) {
      for (int b = 0; b < kDim; ++b) sum += at(a) * gram[static_cast<size_t>(a * kDim + b)] * at(b);
    }
    return sum;
  }

  std::mt19937 random;
  const Case shape;
  const float scale = 0.4f;
  kv::Rope rope;
  Floats keys, values, queries, outputs, shares, gram;
  std::vector<Doubles> probabilities;
};

struct Expected {
  Doubles value_weights, key_weights, key_metric;
};

// Every query, every token, every page.
Expected Naive(const Head& head) {
  const int64_t tokens = head.shape.tokens;
  const SealedRule& rule = head.shape.rule;
  const SpanFrame frame(head.rope, (tokens + 31) / 32);
  Expected e;
  e.value_weights.resize(static_cast<size_t>(tokens));
  e.key_weights.resize(static_cast<size_t>(tokens));
  e.key_metric.resize(kDim * kDim);
  for (int64_t i = 0; i < tokens; ++i) {
    for (int64_t t = 0; t <= i; ++t) {
      const int64_t page = t / 32;
      if (page < rule.sink_pages || page >= i / 32 - rule.window_pages) continue;  // read raw
      const double p = head.probabilities[static_cast<size_t>(i)][static_cast<size_t>(t)];
      const double share = head.shares[static_cast<size_t>(i)];
      e.value_weights[static_cast<size_t>(t)] += p * p * share;
      const double factor = double{head.scale} * head.scale * p * p * head.Energy(i, t) * share;
      Floats query(head.queries.begin() + i * Head::kStride, head.queries.begin() + i * Head::kStride + kDim);
      e.key_weights[static_cast<size_t>(t)] += factor * Head::Dot(query.data(), query.data()) / kDim;
      frame.TurnBack(page, query.data());
      for (size_t a = 0; a < kDim; ++a) {
        for (size_t b = 0; b < kDim; ++b) e.key_metric[a * kDim + b] += factor * query[a] * query[b];
      }
    }
  }
  return e;
}

double Sum(const Doubles& x) { return std::accumulate(x.begin(), x.end(), 0.0); }
double Sum(const Floats& x) { return std::accumulate(x.begin(), x.end(), 0.0); }

double Trace(const Doubles& matrix) {
  double sum = 0.0;
  for (size_t d = 0; d < kDim; ++d) sum += matrix[d * kDim + d];
  return sum;
}

// Tolerances: f32 scores of norm |q||k| scale < 30 move a probability by 30 * 2^-24 * kDim at most.
constexpr double kTolerance = 2e-4;

void ExpectClose(const Floats& got, const Doubles& want, const char* what) {
  ASSERT_EQ(got.size(), want.size());
  const double floor = 1e-6 * *std::max_element(want.begin(), want.end());
  for (size_t t = 0; t < got.size(); ++t) {
    EXPECT_NEAR(got[t], want[t], kTolerance * want[t] + floor) << what << " of token " << t;
  }
}

constexpr Case kPlain = {"plain", 32 * 6, {1, 1}, 0, 0.0f};

class Sensitivities : public testing::TestWithParam<Case> {};

TEST_P(Sensitivities, EqualTheFormulas) {
  const Head head(GetParam(), 21);
  const Expected want = Naive(head);
  for (const uint64_t seed : {1, 2}) {
    const QueryHeadSensitivity got = head.Measure(1, seed);
    ExpectClose(got.value_weights, want.value_weights, "value weight");
    ExpectClose(got.key_weights, want.key_weights, "key weight");
    EXPECT_NEAR(Trace(got.key_metric) / kDim, Sum(got.key_weights), 1e-4 * Sum(got.key_weights));
  }
}

TEST_P(Sensitivities, TheMetricIsRightOnAverage) {
  const Head head(GetParam(), 22);
  const Doubles want = Naive(head).key_metric;
  constexpr int kSeeds = 150;
  Doubles mean(want.size()), square(want.size());
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Doubles got = head.Measure(1, seed).key_metric;
    for (size_t i = 0; i < got.size(); ++i) {
      mean[i] += got[i] / kSeeds;
      square[i] += got[i] * got[i] / kSeeds;
    }
  }
  const double scale = Trace(want) / kDim;
  for (size_t i = 0; i < want.size(); ++i) {
    const double error = std::sqrt(std::max(0.0, square[i] - mean[i] * mean[i]) / kSeeds);
    EXPECT_NEAR(mean[i], want[i], 5 * error + kTolerance * scale) << "element " << i / kDim << ", " << i % kDim;
  }
}

TEST_P(Sensitivities, EveryEighthQueryIsRightOnAverage) {
  const Head head(GetParam(), 23);
  const Expected want = Naive(head);
  constexpr int kSeeds = 300;
  const size_t tokens = want.key_weights.size();
  Doubles mean(2 * tokens), square(2 * tokens);
  double metric = 0.0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const QueryHeadSensitivity got = head.Measure(8, seed);
    metric += Trace(got.key_metric) / kDim / kSeeds;
    for (size_t t = 0; t < 2 * tokens; ++t) {
      const double x = t < tokens ? got.value_weights[t] : got.key_weights[t - tokens];
      mean[t] += x / kSeeds;
      square[t] += x * x / kSeeds;
    }
  }
  for (size_t t = 0; t < 2 * tokens; ++t) {
    const double x = t < tokens ? want.value_weights[t] : want.key_weights[t - tokens];
    const double error = std::sqrt(std::max(0.0, square[t] - mean[t] * mean[t]) / kSeeds);
    EXPECT_NEAR(mean[t], x, 6 * error + kTolerance * x + 1e-9) << (t < tokens ? "value " : "key ") << t % tokens;
  }
  EXPECT_NEAR(metric, Sum(want.key_weights), 0.1 * Sum(want.key_weights));
}

TEST_P(Sensitivities, AreTheSameBitsOnEveryInstructionSet) {
  const Head head(GetParam(), 24);
  const QueryHeadSensitivity want = head.Measure(8, 3);
  for (const simd::Isa isa : simd::SupportedIsas()) {
    const QueryHeadSensitivity got = head.Measure(8, 3, isa);
    EXPECT_EQ(got.value_weights, want.value_weights) << simd::Name(isa);
    EXPECT_EQ(got.key_weights, want.key_weights) << simd::Name(isa);
    EXPECT_EQ(got.key_metric, want.key_metric) << simd::Name(isa);
  }
  EXPECT_NE(head.Measure(8, 4).key_metric, want.key_metric) << "the seed does not count";
}

INSTANTIATE_TEST_SUITE_P(Cases, Sensitivities,
                         testing::Values(kPlain,                                                //
                                         Case{"short last page", 32 * 5 + 3, {1, 1}, 0, 0.0f},  //
                                         Case{"no sinks", 32 * 5, {0, 0}, 0, 0.0f},             //
                                         Case{"two sinks, two window pages", 32 * 7 + 17, {2, 2}, 0, 0.0f},
                                         Case{"sliding window", 32 * 6, {1, 1}, 75, 0.0f},
                                         Case{"softcap", 32 * 5, {1, 1}, 0, 1.5f}));

// What the outputs of the queries that read token t sealed lose where `rows` (keys or values) are off by `e` in one
// channel of it, by differences.
double LostEnergy(Head& head, Floats& rows, int64_t t, int channel, float e) {
  float& x = rows[static_cast<size_t>(t * Head::kStride + channel)];
  const float before = x;
  x = before + e;
  head.Attend();
  const Floats above = head.outputs;
  x = before - e;
  head.Attend();
  const Floats below = head.outputs;
  x = before;
  head.Attend();
  double lost = 0.0;
  for (int64_t i = (t / 32 + head.shape.rule.window_pages + 1) * 32; i < head.shape.tokens; ++i) {
    const auto moved = [&](int d) {
      const auto at = static_cast<size_t>(i * Head::kStride + d);
      return (double{above[at]} - below[at]) / 2;
    };
    for (int a = 0; a < kDim; ++a) {
      for (int b = 0; b < kDim; ++b) {
        lost +=
            head.shares[static_cast<size_t>(i)] * moved(a) * head.gram[static_cast<size_t>(a * kDim + b)] * moved(b);
      }
    }
  }
  return lost;
}

TEST(Sensitivity, IsWhatAttentionLosesByDifferences) {
  Head head({"short", 32 * 4 + 9, {1, 1}, 0, 0.0f}, 29);
  const QueryHeadSensitivity got = head.Measure(1, 1);
  for (const int64_t t : {32, 47, 63}) {
    constexpr float kError = 0.01f;
    const double square = double{kError} * kError;
    double keys = 0.0;
    for (int d = 0; d < kDim; ++d) keys += LostEnergy(head, head.keys, t, d, kError);
    EXPECT_NEAR(keys, square * kDim * got.key_weights[static_cast<size_t>(t)], 0.01 * keys) << "key " << t;
    for (const int d : {0, 9}) {
      const double want =
          square * got.value_weights[static_cast<size_t>(t)] * head.gram[static_cast<size_t>(d * kDim + d)];
      EXPECT_NEAR(LostEnergy(head, head.values, t, d, kError), want, 0.01 * want) << "value " << t << ", " << d;
    }
  }
}

TEST(Sensitivity, RawPagesCountForNothing) {
  const Head head(kPlain, 25);
  const QueryHeadSensitivity got = head.Measure(1, 1);
  for (size_t t = 0; t < got.key_weights.size(); ++t) {
    const bool sealed = t / 32 >= 1 && t / 32 < 4;  // the last page reads those below its own and the window
    EXPECT_EQ(got.key_weights[t] > 0, sealed) << t;
    EXPECT_EQ(got.value_weights[t] > 0, sealed) << t;
  }
}

TEST(Sensitivity, AShortSequenceReadsNothingSealed) {
  for (const int64_t tokens : {1, 32, 96}) {
    const Head head({"short", tokens, {1, 1}, 0, 0.0f}, 26);
    const QueryHeadSensitivity got = head.Measure(8, 1);
    EXPECT_EQ(Sum(got.key_weights), 0.0);
    EXPECT_EQ(Sum(got.value_weights), 0.0);
    EXPECT_EQ(Sum(got.key_metric), 0.0);
  }
}

TEST(Sensitivity, QueriesOfNoLengthCountForValuesAlone) {
  Head head(kPlain, 27);
  std::fill(head.queries.begin(), head.queries.end(), 0.0f);
  const QueryHeadSensitivity got = head.Measure(1, 1);
  EXPECT_GT(Sum(got.value_weights), 0.0);
  EXPECT_EQ(Sum(got.key_weights), 0.0);
  EXPECT_EQ(Sum(got.key_metric), 0.0);
}

TEST(SensitivityKernels, SoftmaxEqualsTheDefinition) {
  std::mt19937 random(28);
  std::normal_distribution<float> normal(0.0f, 20.0f);
  for (const int64_t n : {16, 32, 96}) {
    Floats scores(static_cast<size_t>(n));
    for (float& score : scores) score = normal(random);
    std::fill(scores.begin() + n / 2, scores.begin() + n / 2 + 5, -std::numeric_limits<float>::infinity());
    const double largest = *std::max_element(scores.begin(), scores.end());
    double total = 0.0;
    for (const float score : scores) total += std::exp(score - largest);
    for (const simd::Isa isa : simd::SupportedIsas()) {
      Floats got = scores;
      SensitivityKernelsFor(isa).softmax(got.data(), n);
      for (size_t i = 0; i < got.size(); ++i) {
        const double want = std::exp(scores[i] - largest) / total;
        EXPECT_NEAR(got[i], want, 1e-5 * want + 1e-37) << i;  // a difference near 100 is off by 2^-18
      }
    }
  }
}

}  // namespace
}  // namespace nibble::engine
