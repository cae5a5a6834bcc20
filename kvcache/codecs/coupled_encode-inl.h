// Sealing a page with a coupled codec: vectors to coefficients to codes. The numbers are said in coupled.h; tokens lie
// in the lanes.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_CODECS_COUPLED_ENCODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_CODECS_COUPLED_ENCODE_INL_H_
#undef NIBBLE_KVCACHE_CODECS_COUPLED_ENCODE_INL_H_
#else
#define NIBBLE_KVCACHE_CODECS_COUPLED_ENCODE_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "kvcache/codecs/coupled_tables.h"
#include "kvcache/codecs/levels-inl.h"
#include "kvcache/simd/vec16-inl.h"

#if HWY_TARGET == HWY_AVX3_DL
NIBBLE_BEFORE_VNNI_NAMESPACE();
#else
HWY_BEFORE_NAMESPACE();
#endif
namespace nibble {
namespace kv {
namespace HWY_NAMESPACE {

using namespace nibble::simd::HWY_NAMESPACE;  // NOLINT: the vector vocabulary of this target

HWY_INLINE V16 Negated(V16 a) {
  V16 r;
  NIBBLE_PARTS r.v[i] = hn::Neg(a.v[i]);
  return r;
}

// A pair turned back: first members become a', second ones b' (coupled.h).
struct TurnedPair {
  V16 a, b;
};
HWY_INLINE TurnedPair TurnBack(V16 a, V16 b, V16 cosine, V16 sine) {
  return {Fma(b, sine, Mul(a, cosine)), Fma(Negated(a), sine, Mul(b, cosine))};
}

// x: [head_dim][32 tokens], from keys as the raw form has them, turned back.
inline void LoadKeys(const uint16_t* raw, int head_dim, const PageTurns& turns, int64_t page, float* x) {
  for (int i = 0; i < head_dim * kPageTokens; i += 16) Store(LoadFinite(raw + i), x + i);
  for (int i = 0; i < turns.pairs(); ++i) {
    const V16 cosine = Set(turns.cosines(page)[i]), sine = Set(turns.sines(page)[i]);
    float *a = x + turns.first(i) * kPageTokens, *b = x + turns.second(i) * kPageTokens;
    for (int t = 0; t < kPageTokens; t += 16) {
      const TurnedPair turned = TurnBack(Load(a + t), Load(b + t), cosine, sine);
      Store(turned.a, a + t);
      Store(turned.b, b + t);
    }
  }
}

// x: [head_dim][32 tokens], from values as the raw form has them.
inline void LoadValues(const uint16_t* raw, int head_dim, float* x) {
  for (int d = 0; d < head_dim; d += 16) {
    for (int t = 0; t < kPageTokens; ++t) {
      HWY_ALIGN float row[16];
      Store(LoadFinite(raw + t * head_dim + d), row);
      for (int i = 0; i < 16; ++i) x[(d + i) * kPageTokens + t] = row[i];
    }
  }
}

// Coefficients [first, first + kCount) of x less its mean, [kCount][32 tokens].
template <int kCount>
HWY_INLINE void Analyze(const HeadTables& tables, int head_dim, const float* x, int first, float* z) {
  HWY_ALIGN float rows[kCount * kMaxCoupledHeadDim];
  const uint16_t* halves = tables.analysis.data.get() + static_cast<int64_t>(first) * head_dim;
  for (int i = 0; i < kCount * head_dim; i += 16) Store(LoadHalf(halves + i), rows + i);
  V16 sums[kCount][2];
  NIBBLE_UNROLL for (int j = 0; j < kCount; ++j) sums[j][0] = sums[j][1] = Zero();
  for (int i = 0; i < head_dim; ++i) {
    const V16 low = Load(x + i * kPageTokens), high = Load(x + i * kPageTokens + 16);
    NIBBLE_UNROLL for (int j = 0; j < kCount; ++j) {
      const V16 a = Set(rows[j * head_dim + i]);
      sums[j][0] = Fma(a, low, sums[j][0]);
      sums[j][1] = Fma(a, high, sums[j][1]);
    }
  }
  NIBBLE_UNROLL for (int j = 0; j < kCount; ++j) {
    Store(sums[j][0], z + j * kPageTokens);
    Store(sums[j][1], z + j * kPageTokens + 16);
  }
}

// One group's centroids as floats, and half of their squared lengths.
struct FloatCentroids {
  HWY_ALIGN float coefficients[kCentroids * kMaxGroupCoefficients];  // [256][count]
  HWY_ALIGN float half_squares[kCentroids];
};

inline void LoadCentroids(const HeadTables& tables, int first, int count, FloatCentroids* centroids) {
  for (int k = 0; k < kCentroids; k += 16) {
    V16 squares = Zero();
    for (int j = 0; j < count; ++j) {
      const hn::Rebind<int8_t, I> bytes;
      const int8_t* source = tables.centroids.data.get() + (first + j) * kCentroids + k;
      I16 integers;
      NIBBLE_PARTS integers.v[i] = hn::PromoteTo(I(), hn::LoadU(bytes, source + i * kLanes));
      const V16 c = Mul(ToFloat(integers), Set(tables.centroid_scale.data[first + j]));
      squares = Fma(c, c, squares);
      HWY_ALIGN float lanes[16];
      Store(c, lanes);
      for (int i = 0; i < 16; ++i) centroids->coefficients[(k + i) * count + j] = lanes[i];
    }
    Store(Mul(Set(0.5f), squares), centroids->half_squares + k);
  }
}

// The least distance so far of sixteen tokens, and its centroid as a number.
struct Nearest {
  V16 distance, centroid;

  HWY_INLINE void Meet(V16 other, V16 k) {
    NIBBLE_PARTS {
      const auto nearer = hn::Lt(other.v[i], distance.v[i]);
      distance.v[i] = hn::IfThenElse(nearer, other.v[i], distance.v[i]);
      centroid.v[i] = hn::IfThenElse(nearer, k.v[i], centroid.v[i]);
    }
  }
};

// Codes of 32 tokens. kCount 0: any number of coefficients, `count`.
template <int kCount>
void FindNearest(const FloatCentroids& centroids, const float* z, int count, int32_t* codes) {
  constexpr int kMost = kCount == 0 ? kMaxGroupCoefficients : kCount;
  if constexpr (kCount != 0) count = kCount;
  V16 minus_z[kMost][2];
  for (int j = 0; j < count; ++j) {
    minus_z[j][0] = Negated(Load(z + j * kPageTokens));
    minus_z[j][1] = Negated(Load(z + j * kPageTokens + 16));
  }
  const float infinity = HUGE_VALF;
  Nearest low = {Set(infinity), Zero()}, high = low;
  const float* c = centroids.coefficients;
  for (int k = 0; k < kCentroids; ++k, c += count) {
    V16 d[2];
    d[0] = d[1] = Set(centroids.half_squares[k]);
    NIBBLE_UNROLL for (int j = 0; j < count; ++j) {
      const V16 coefficient = Set(c[j]);
      d[0] = Fma(minus_z[j][0], coefficient, d[0]);
      d[1] = Fma(minus_z[j][1], coefficient, d[1]);
    }
    const V16 number = Set(static_cast<float>(k));
    low.Meet(d[0], number);
    high.Meet(d[1], number);
  }
  NIBBLE_PARTS {
    hn::StoreU(NearestInt(low.centroid).v[i], I(), codes + i * kLanes);
    hn::StoreU(NearestInt(high.centroid).v[i], I(), codes + 16 + i * kLanes);
  }
}

inline void FindNearest(const FloatCentroids& centroids, const float* z, int count, int32_t* codes) {
  switch (count) {
    case 2:
      return FindNearest<2>(centroids, z, count, codes);
    case 3:
      return FindNearest<3>(centroids, z, count, codes);
    case 4:
      return FindNearest<4>(centroids, z, count, codes);
    case 5:
      return FindNearest<5>(centroids, z, count, codes);
    case 8:
      return FindNearest<8>(centroids, z, count, codes);
    default:
      return FindNearest<0>(centroids, z, count, codes);
  }
}

// x: [head_dim][32 tokens]; its mean is taken off in place. codes: [groups][32], that of token t at place(t).
template <typename Place>
void EncodeHead(const HeadTables& tables, int head_dim, float* x, const Place& place, uint8_t* codes) {
  for (int i = 0; i < head_dim * kPageTokens; i += 16) {
    Store(Sub(Load(x + i), Set(tables.mean.data[i / kPageTokens])), x + i);
  }
  HWY_ALIGN float z[kMaxCoupledHeadDim * kPageTokens];
  int first = 0;
  for (; first + 4 <= tables.coefficients; first += 4) Analyze<4>(tables, head_dim, x, first, z + first * kPageTokens);
  for (; first < tables.coefficients; ++first) Analyze<1>(tables, head_dim, x, first, z + first * kPageTokens);
  FloatCentroids centroids;
  int begin = 0;
  for (const int end : tables.group_ends) {
    int32_t nearest[kPageTokens];
    LoadCentroids(tables, begin, end - begin, &centroids);
    FindNearest(centroids, z + begin * kPageTokens, end - begin, nearest);
    for (int t = 0; t < kPageTokens; ++t) codes[place(t)] = static_cast<uint8_t>(nearest[t]);
    begin = end, codes += kPageTokens;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_COUPLED_ENCODE_INL_H_
