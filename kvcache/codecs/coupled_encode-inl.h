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
#include "kvcache/codecs/span_turns-inl.h"
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

// x: [head_dim][32 tokens], from keys as the raw form has them, turned back.
inline void LoadKeys(const uint16_t* raw, int head_dim, const SpanTurns& turns, int64_t span, float* x) {
  for (int i = 0; i < head_dim * kPageTokens; i += 16) Store(LoadFinite(raw + i), x + i);
  for (int i = 0; i < turns.pairs(); ++i) {
    const V16 cosine = Set(turns.cosines(span)[i]), sine = Set(turns.sines(span)[i]);
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
  HWY_ALIGN float coefficients[kMaxGroupCoefficients * kCentroids];  // [count][kCentroids], the entries first
  HWY_ALIGN float half_squares[kCentroids];
};

inline void LoadCentroids(const HeadTables& tables, int first, int count, FloatCentroids* centroids) {
  const hn::Rebind<uint8_t, I> bytes;
  const auto offset = hn::Set(I(), tables.centroid_offset);
  const bool is_signed = tables.centroid_offset == 0;
  for (int k = 0; k < tables.entries; k += 16) {
    V16 squares = Zero();
    for (int j = 0; j < count; ++j) {
      const uint8_t* source = tables.centroids.data.get() + (first + j) * tables.entries + k;
      I16 integers;
      NIBBLE_PARTS {
        const auto byte = hn::PromoteTo(I(), hn::LoadU(bytes, source + i * kLanes));
        integers.v[i] = is_signed ? hn::ShiftRight<24>(hn::ShiftLeft<24>(byte)) : hn::Sub(byte, offset);
      }
      const V16 c = Mul(ToFloat(integers), Set(tables.centroid_scale.data[first + j]));
      squares = Fma(c, c, squares);
      Store(c, centroids->coefficients + j * kCentroids + k);
    }
    Store(Mul(Set(0.5f), squares), centroids->half_squares + k);
  }
}

// Sixteen centroids make a block: the search first finds the block, then the centroid.
struct NearestBlocks {
  HWY_ALIGN float distance[kPageTokens];
  HWY_ALIGN int32_t block[kPageTokens];
};

// Centroids whose distances are summed at once, as many as registers hold.
inline constexpr int kCentroidsAtOnce = kParts == 1 ? 8 : 2;

// The least distance of 32 tokens to the centroids [k, k + kCentroidsAtOnce).
HWY_INLINE void LeastDistance(const FloatCentroids& centroids, const float* z, int count, int k, V16* low, V16* high) {
  V16 d[kCentroidsAtOnce][2];
  NIBBLE_UNROLL for (int n = 0; n < kCentroidsAtOnce; ++n) d[n][0] = d[n][1] = Set(centroids.half_squares[k + n]);
  for (int j = 0; j < count; ++j) {
    const V16 z0 = Load(z + j * kPageTokens), z1 = Load(z + j * kPageTokens + 16);
    NIBBLE_UNROLL for (int n = 0; n < kCentroidsAtOnce; ++n) {
      const V16 c = Set(centroids.coefficients[j * kCentroids + k + n]);
      d[n][0] = MinusFma(z0, c, d[n][0]);
      d[n][1] = MinusFma(z1, c, d[n][1]);
    }
  }
  V16 least[2] = {d[0][0], d[0][1]};
  NIBBLE_UNROLL for (int n = 1; n < kCentroidsAtOnce; ++n) {
    least[0] = Min(least[0], d[n][0]);
    least[1] = Min(least[1], d[n][1]);
  }
  *low = Min(*low, least[0]);
  *high = Min(*high, least[1]);
}

// Where `distance` is less than the least one so far it takes its place, and `block` that of its block.
HWY_INLINE void Meet(V16 distance, I16 block, V16* least, I16* nearest) {
  NIBBLE_PARTS {
    const auto nearer = hn::Lt(distance.v[i], least->v[i]);
    nearest->v[i] = hn::IfThenElse(hn::RebindMask(I(), nearer), block.v[i], nearest->v[i]);
    least->v[i] = hn::Min(distance.v[i], least->v[i]);
  }
}

inline void FindBlocks(const FloatCentroids& centroids, const float* z, int count, NearestBlocks* nearest) {
  const V16 infinity = Set(HUGE_VALF);
  V16 least[2] = {infinity, infinity};
  I16 blocks[2];
  NIBBLE_PARTS blocks[0].v[i] = blocks[1].v[i] = hn::Zero(I());
  for (int k = 0; k < kCentroids; k += 16) {
    V16 low = infinity, high = infinity;
    for (int n = 0; n < 16; n += kCentroidsAtOnce) LeastDistance(centroids, z, count, k + n, &low, &high);
    I16 block;
    NIBBLE_PARTS block.v[i] = hn::Set(I(), k);
    Meet(low, block, &least[0], &blocks[0]);
    Meet(high, block, &least[1], &blocks[1]);
  }
  for (int half = 0; half < 2; ++half) {
    Store(least[half], nearest->distance + 16 * half);
    NIBBLE_PARTS hn::StoreU(blocks[half].v[i], I(), nearest->block + 16 * half + i * kLanes);
  }
}

// The lowest centroid of the block that begins at k whose distance to token t is `least`.
HWY_INLINE int FindInBlock(const FloatCentroids& centroids, const float* z, int count, int k, float least) {
  V16 d = Load(centroids.half_squares + k);
  for (int j = 0; j < count; ++j) {
    d = MinusFma(Set(z[j * kPageTokens]), Load(centroids.coefficients + j * kCentroids + k), d);
  }
  for (int i = 0; i < kParts; ++i) {
    const intptr_t found = hn::FindFirstTrue(F(), hn::Eq(d.v[i], hn::Set(F(), least)));
    if (found >= 0) return k + i * kLanes + static_cast<int>(found);
  }
  return k;
}

// codes: of 32 tokens, as keys or values have them.
HWY_INLINE void FindNearest(const FloatCentroids& centroids, const float* z, int count, bool keys, uint8_t* codes) {
  NearestBlocks nearest;
  FindBlocks(centroids, z, count, &nearest);
  for (int t = 0; t < kPageTokens; ++t) {
    const int code = FindInBlock(centroids, z + t, count, nearest.block[t], nearest.distance[t]);
    codes[keys ? KeyPlace(t) : t] = static_cast<uint8_t>(code);
  }
}

// The nearest of a mirrored codebook so far, of sixteen tokens.
struct NearestMirrored {
  V16 distance, sums[2];
  I16 entry;

  HWY_INLINE void Begin() {
    distance = Set(HUGE_VALF), sums[0] = sums[1] = Zero();
    entry = SetInt(0);
  }
  HWY_INLINE void Meet(int k, V16 half_square, const V16 (&to_entry)[2]) {
    NIBBLE_PARTS {
      const auto a = hn::Abs(to_entry[0].v[i]), b = hn::Abs(to_entry[1].v[i]);
      const auto d = hn::Sub(hn::Sub(half_square.v[i], a), b);
      const auto nearer = hn::Lt(d, distance.v[i]);
      distance.v[i] = hn::Min(d, distance.v[i]);
      entry.v[i] = hn::IfThenElse(hn::RebindMask(I(), nearer), hn::Set(I(), k), entry.v[i]);
      NIBBLE_UNROLL for (int n = 0; n < 2; ++n) {
        sums[n].v[i] = hn::IfThenElse(nearer, to_entry[n].v[i], sums[n].v[i]);
      }
    }
  }
  // Of a group that begins at coefficient `begin`.
  HWY_INLINE void StoreCodes(int begin, int32_t* codes) const {
    NIBBLE_PARTS {
      auto code = entry.v[i];
      NIBBLE_UNROLL for (int n = 0; n < 2; ++n) {
        const auto turned = hn::RebindMask(I(), hn::Lt(sums[n].v[i], hn::Zero(F())));
        code = hn::Or(code, hn::IfThenElseZero(turned, hn::Set(I(), (begin + n) % 2 == 0 ? 0x40 : 0x80)));
      }
      hn::StoreU(code, I(), codes + i * kLanes);
    }
  }
};

// codes: of 32 tokens by a mirrored codebook, as keys or values have them.
inline void FindNearestMirrored(const FloatCentroids& centroids, int begin, const float* z, int count, bool keys,
                                uint8_t* codes) {
  int32_t found[kPageTokens];
  for (int half = 0; half < 2; ++half, z += 16) {
    NearestMirrored nearest;
    nearest.Begin();
    for (int k = 0; k < kMirroredEntries; k += kCentroidsAtOnce) {
      V16 sums[kCentroidsAtOnce][2];
      NIBBLE_UNROLL for (int n = 0; n < kCentroidsAtOnce; ++n) sums[n][0] = sums[n][1] = Zero();
      const auto add = [&](int j, int of_two) HWY_ATTR {
        const V16 z_j = Load(z + j * kPageTokens);
        NIBBLE_UNROLL for (int n = 0; n < kCentroidsAtOnce; ++n) {
          const V16 c = Set(centroids.coefficients[j * kCentroids + k + n]);
          sums[n][of_two] = Fma(z_j, c, sums[n][of_two]);
        }
      };
      for (int j = 0; j < count; j += 2) {
        add(j, 0);
        if (j + 1 < count) add(j + 1, 1);
      }
      NIBBLE_UNROLL for (int n = 0; n < kCentroidsAtOnce; ++n) {
        nearest.Meet(k + n, Set(centroids.half_squares[k + n]), sums[n]);
      }
    }
    nearest.StoreCodes(begin, found + 16 * half);
  }
  for (int t = 0; t < kPageTokens; ++t) codes[keys ? KeyPlace(t) : t] = static_cast<uint8_t>(found[t]);
}

// x: [head_dim][32 tokens]; its mean is taken off in place. codes: [groups][32].
inline void EncodeHead(const HeadTables& tables, int head_dim, float* x, bool keys, uint8_t* codes) {
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
    LoadCentroids(tables, begin, end - begin, &centroids);
    if (tables.mirrored()) {
      FindNearestMirrored(centroids, begin, z + begin * kPageTokens, end - begin, keys, codes);
    } else {
      FindNearest(centroids, z + begin * kPageTokens, end - begin, keys, codes);
    }
    begin = end, codes += kPageTokens;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_COUPLED_ENCODE_INL_H_
