#include "engine/quant/calibration/vector_statistics.h"

#include <algorithm>

#include "engine/quant/calibration/eigen.h"
#include "engine/quant/calibration/seeded_random.h"
#include "kvcache/simd/half.h"

namespace nibble::engine {
namespace {

using RowMatrixF = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowMatrixD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Part of the draws that goes to tokens regardless of their weights, so that none is represented by luck alone.
constexpr double kEvenShare = 0.25;

constexpr float kMostHalf = 65504.0f;

}  // namespace

VectorStatistics::VectorStatistics(int head_dim)
    : dim(head_dim),
      sum(static_cast<size_t>(head_dim)),
      moment(static_cast<size_t>(head_dim) * static_cast<size_t>(head_dim)),
      metric(moment.size()) {}

void VectorStatistics::Add(absl::Span<const float> vectors, absl::Span<const float> weights, int64_t keep,
                           uint64_t seed) {
  const auto count = static_cast<int64_t>(weights.size());
  const Eigen::VectorXd w = Eigen::Map<const Eigen::VectorXf>(weights.data(), count).cast<double>();
  const RowMatrixD x = Eigen::Map<const RowMatrixF>(vectors.data(), count, dim).cast<double>();
  const RowMatrixD weighted = w.asDiagonal() * x;
  const double total = w.sum();
  weight += total;
  Eigen::Map<Eigen::VectorXd>(sum.data(), dim) += weighted.colwise().sum().transpose();
  Eigen::Map<RowMatrixD>(moment.data(), dim, dim) += x.transpose() * weighted;
  if (!(total > 0)) return;
  // Systematic sampling: equal steps along the sum of the draws' probabilities.
  double reached = 0.0, next = SeededRandom(seed).Uniform();
  for (int64_t t = 0; t < count; ++t) {
    const double draws =
        static_cast<double>(keep) * ((1 - kEvenShare) * w[t] / total + kEvenShare / static_cast<double>(count));
    reached += draws;
    int times = 0;
    for (; next < reached; next += 1.0) ++times;
    if (times == 0 || !(w[t] > 0)) continue;
    sample_weights.push_back(static_cast<float>(times * w[t] / draws));
    const float* row = vectors.data() + t * dim;
    for (int d = 0; d < dim; ++d) samples.push_back(simd::FloatToHalf(std::clamp(row[d], -kMostHalf, kMostHalf)));
  }
}

void VectorStatistics::AddMetric(absl::Span<const double> part, double factor) {
  for (size_t i = 0; i < metric.size(); ++i) metric[i] += factor * part[i];
}

KvStatistics EmptyStatistics(int num_layers, int num_kv_heads, int head_dim) {
  const std::vector<VectorStatistics> heads(static_cast<size_t>(num_kv_heads), VectorStatistics(head_dim));
  return {head_dim, std::vector<KvStatistics::Layer>(static_cast<size_t>(num_layers), {heads, heads})};
}

}  // namespace nibble::engine
