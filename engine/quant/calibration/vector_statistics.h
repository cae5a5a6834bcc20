// What calibration keeps of the keys or the values of one KV head: weighted moments, a metric, and a bounded sample.
#ifndef NIBBLE_ENGINE_QUANT_CALIBRATION_VECTOR_STATISTICS_H_
#define NIBBLE_ENGINE_QUANT_CALIBRATION_VECTOR_STATISTICS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace nibble::engine {

// The loss from errors e_t is expected to be the sum over tokens of w_t e_t M e_t.
struct VectorStatistics {
  int dim = 0;
  double weight = 0.0;         // sum of w_t
  std::vector<double> sum;     // [dim]: of w_t x_t
  std::vector<double> moment;  // [dim, dim]: of w_t x_t x_t
  std::vector<double> metric;  // [dim, dim]: M times whatever scale, added up over sequences
  // Vectors drawn with probabilities that rise with their weights; each stands for sample_weights[i].
  std::vector<float> sample_weights;
  std::vector<uint16_t> samples;  // [samples, dim], f16

  explicit VectorStatistics(int head_dim);

  int64_t num_samples() const { return static_cast<int64_t>(sample_weights.size()); }

  // Adds a sequence's vectors, [weights.size(), dim], and keeps about `keep` of them. `seed` decides which.
  void Add(absl::Span<const float> vectors, absl::Span<const float> weights, int64_t keep, uint64_t seed);
  // Adds a part of the metric, [dim, dim].
  void AddMetric(absl::Span<const double> part, double factor);
};

// Of a whole model.
struct KvStatistics {
  struct Layer {
    std::vector<VectorStatistics> keys, values;  // [num_kv_heads]; keys relative to their page
  };
  int head_dim = 0;
  std::vector<Layer> layers;
};

KvStatistics EmptyStatistics(int num_layers, int num_kv_heads, int head_dim);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_CALIBRATION_VECTOR_STATISTICS_H_
