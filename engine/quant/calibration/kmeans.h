// Weighted k-means: k-means++ seeding (Arthur & Vassilvitskii, SODA 2007), then Lloyd's iterations. A mirrored codebook
// (kvcache/codecs/calibration.h) is the same among codebooks that signs of even and of odd dimensions leave alone: a
// sample counts for its centroid with the signs that bring it nearest.
#ifndef NIBBLE_ENGINE_QUANT_CALIBRATION_KMEANS_H_
#define NIBBLE_ENGINE_QUANT_CALIBRATION_KMEANS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kvcache/simd/isa.h"

namespace nibble::engine {

// Samples of one group of coefficients, a coefficient after another.
struct KmeansSamples {
  int dims = 0;                // 1 to kMaxGroupCoefficients
  int64_t count = 0;           // at least 1
  int64_t stride = 0;          // `count` up to a multiple of 16
  std::vector<float> values;   // [dims][stride]
  std::vector<float> weights;  // [count], not negative

  KmeansSamples(int num_dims, int64_t num_samples);
};

struct KmeansOptions {
  int centroids = 256;    // that are returned
  bool mirrored = false;  // each stands for four
  int iterations = 20;    // at most; ends earlier when nothing moves
  uint64_t seed = 0;
  simd::Isa isa = simd::Isa::kScalar;
};

// [centroids][dims]. A cluster that loses its samples is seeded anew where the loss is largest. Where there are fewer
// distinct samples than centroids, some centroids are equal.
std::vector<float> Kmeans(const KmeansSamples& samples, const KmeansOptions& options);

// All that mirrored centroids stand for: first as they are, then with even dimensions
// turned, odd ones, all.
std::vector<float> Mirrored(absl::Span<const float> centroids, int dims);

// The nearest centroid of each sample, [stride].
std::vector<int32_t> NearestCentroids(const KmeansSamples& samples, absl::Span<const float> centroids, simd::Isa isa);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_CALIBRATION_KMEANS_H_
