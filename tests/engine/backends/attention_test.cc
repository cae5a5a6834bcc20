#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "engine/backends/cpu/cpu_backend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kvcache/codecs/codec.h"
#include "kvcache/simd/half.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/backends/random_tensor.h"

namespace nibble::engine {
namespace {

constexpr AttentionShape kShape = {6, 2, 32};
constexpr int kQkvCols = (6 + 2 * 2) * 32;
constexpr int kOutCols = 6 * 32;

struct Setting {
  simd::Isa isa = simd::Isa::kScalar;
  int threads = 1;
  int chunk = 1000;
  int64_t window = 0;
  float softcap = 0.0f;
};

// Attention of `tokens` positions whose q | k | v are given, in chunks, into pages in an order of their own.
std::vector<float> RunAttention(const Setting& setting, const std::vector<float>& qkv) {
  const int64_t tokens = static_cast<int64_t>(qkv.size()) / kQkvCols;
  WorkerPool pool(setting.threads);
  CpuBackend backend(setting.isa, pool, kv::RawFormF16(setting.isa), nullptr);
  std::vector<kv::PageId> pages(kv::PagesFor(tokens));
  std::iota(pages.rbegin(), pages.rend(), 0);
  EXPECT_THAT(backend.AllocateKv({1, kShape.num_kv_heads, kShape.head_dim}, {static_cast<int64_t>(pages.size())},
                                 setting.chunk),
              IsOk());
  std::vector<float> out(tokens * kOutCols);
  for (int64_t first = 0; first < tokens; first += setting.chunk) {
    const int64_t count = std::min<int64_t>(setting.chunk, tokens - first);
    std::vector<float> rows(qkv.begin() + first * kQkvCols, qkv.begin() + (first + count) * kQkvCols);
    std::vector<float> angles(count * 32);
    const View view = {rows.data(), count, kQkvCols}, angle_view = {angles.data(), count, 32};
    const SequenceRows sequence = {0, count, first, pages, {}};
    const RopeShape rope = {32, false, {}};
    backend.RopeAngles({sequence}, rope, 10000.0, 1.0, angle_view);
    backend.RopeStoreKv({sequence}, kShape, rope, angle_view, 0, view);
    backend.Attend({sequence}, kShape, 0, 0.2f, setting.window, setting.softcap, view,
                   {out.data() + first * kOutCols, count, kOutCols});
  }
  return out;
}

// Rotates a head as RoPE says, in double.
std::vector<double> Rotated(const float* head, int64_t position) {
  std::vector<double> out(32);
  for (int i = 0; i < 16; ++i) {
    const double angle = static_cast<double>(position) * std::pow(10000.0, -i / 16.0);
    out[i] = head[i] * std::cos(angle) - head[16 + i] * std::sin(angle);
    out[16 + i] = head[i] * std::sin(angle) + head[16 + i] * std::cos(angle);
  }
  return out;
}

// The naive twin: every score, one softmax, in double; keys and values rounded to f16 as the cache keeps them.
std::vector<double> NaiveHead(const Setting& setting, const std::vector<float>& qkv, int64_t position, int head) {
  const int kv_head = head / (kShape.num_heads / kShape.num_kv_heads);
  const std::vector<double> query = Rotated(&qkv[position * kQkvCols + head * 32], position);
  const int64_t first = setting.window > 0 ? std::max<int64_t>(0, position - setting.window + 1) : 0;
  std::vector<double> mixed(32);
  double total = 0.0;
  for (int64_t t = first; t <= position; ++t) {
    const std::vector<double> key = Rotated(&qkv[t * kQkvCols + (6 + kv_head) * 32], t);
    double score = 0.0;
    for (int d = 0; d < 32; ++d) {
      score += query[d] * simd::HalfToFloat(simd::FloatToHalf(static_cast<float>(key[d])));
    }
    score *= 0.2f;
    if (setting.softcap > 0) score = setting.softcap * std::tanh(score / setting.softcap);
    const double weight = std::exp(score);
    total += weight;
    for (int d = 0; d < 32; ++d) {
      mixed[d] += weight * simd::HalfToFloat(simd::FloatToHalf(qkv[t * kQkvCols + (8 + kv_head) * 32 + d]));
    }
  }
  for (double& value : mixed) value /= total;
  return mixed;
}

std::vector<float> RandomQkv(int64_t tokens) {
  std::mt19937_64 random(11);
  return RandomFloats(tokens * kQkvCols, random);
}

void ExpectNearNaive(const Setting& setting, int64_t tokens) {
  const std::vector<float> qkv = RandomQkv(tokens);
  const std::vector<float> got = RunAttention(setting, qkv);
  for (int64_t position = 0; position < tokens; position += 37) {
    for (int head = 0; head < kShape.num_heads; ++head) {
      const std::vector<double> want = NaiveHead(setting, qkv, position, head);
      // Keys near a rounding boundary of f16 may fall either way: one part in 2^11 of a score of a few units.
      for (int d = 0; d < 32; ++d) {
        ASSERT_NEAR(got[position * kOutCols + head * 32 + d], want[d], 2e-3) << position << " " << head << " " << d;
      }
    }
  }
}

TEST(Attention, EqualsNaiveAttention) { ExpectNearNaive({}, 700); }

TEST(Attention, AWindowHidesWhatIsOlder) {
  for (int64_t window : {1, 31, 32, 33, 300}) {
    Setting setting;
    setting.window = window;
    ExpectNearNaive(setting, 620);
  }
}

TEST(Attention, SoftCapBoundsTheScores) {
  Setting setting;
  setting.softcap = 0.7f;
  ExpectNearNaive(setting, 300);
}

struct Split {
  int threads;
  int chunk;
};

TEST(Attention, ChunksThreadsAndTargetsGiveTheSameBits) {
  // Three segments, and windows that begin inside the first, the second and the third.
  const std::vector<float> qkv = RandomQkv(560);
  for (int64_t window : {0, 100, 300}) {
    Setting base;
    base.window = window;
    const std::vector<float> want = RunAttention(base, qkv);
    for (simd::Isa isa : simd::SupportedIsas()) {
      for (const Split& split : {Split{1, 1}, Split{2, 1}, Split{2, 45}, Split{2, 560}}) {
        // The plainest target is slow, and `want` is its own: one split is enough.
        if (isa == simd::Isa::kScalar && split.chunk != 45) continue;
        const Setting setting = {isa, split.threads, split.chunk, window, 0.0f};
        const std::vector<float> got = RunAttention(setting, qkv);
        for (size_t i = 0; i < want.size(); ++i) {
          ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(want[i]))
              << simd::Name(isa) << " chunk " << split.chunk << " threads " << split.threads << " at " << i;
        }
      }
    }
  }
}

TEST(Attention, WhatWasNeverWrittenIsNeverRead) {
  // Pages poisoned with NaN, as a recycled page may hold anything.
  const std::vector<float> qkv = RandomQkv(40);
  for (simd::Isa isa : simd::SupportedIsas()) {
    std::vector<uint16_t> page(2 * 32 * 32, 0x7FFF);
    auto* bytes = reinterpret_cast<std::byte*>(page.data());
    const kv::RawForm& form = kv::RawFormF16(isa);
    for (int slot = 0; slot < 3; ++slot) form.store(bytes, 32, slot, &qkv[slot * 32], &qkv[640 + slot * 32]);
    std::vector<float> weights(32, 0.25f), mixed(32), scores(32);
    form.mix({bytes, 32, weights.data(), 32, 1, 0, 3, mixed.data(), 32});
    form.scores({bytes, 32, qkv.data(), 32, 1, scores.data(), 32});
    for (float value : mixed) EXPECT_TRUE(std::isfinite(value));
    for (int t = 0; t < 32; ++t) EXPECT_EQ(std::isfinite(scores[t]), t < 3) << t;
  }
}

}  // namespace
}  // namespace nibble::engine
