#include "engine/quant/smoothing.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace nibble::engine {
namespace {

// Of the mean: an input that calibration never saw, or one without weights, is not scaled beyond all measure.
constexpr double kLeastEnergy = 1e-4;

double LeastOf(absl::Span<const double> energies) {
  return kLeastEnergy * std::accumulate(energies.begin(), energies.end(), 0.0) / static_cast<double>(energies.size());
}

}  // namespace

void AddColumnEnergies(const Tensor& matrix, absl::Span<double> energies) {
  std::vector<float> row(energies.size());
  for (int64_t r = 0; r < matrix.rows(); ++r) {
    DecodeRow(matrix, r, absl::MakeSpan(row));
    for (size_t c = 0; c < row.size(); ++c) energies[c] += double{row[c]} * double{row[c]};
  }
}

std::vector<float> SmoothingScales(absl::Span<const double> inputs, absl::Span<const double> weights) {
  const double least_input = LeastOf(inputs), least_weight = LeastOf(weights);
  std::vector<double> logs(inputs.size());
  for (size_t c = 0; c < logs.size(); ++c) {
    const double input = std::log(std::max(inputs[c], least_input)),
                 weight = std::log(std::max(weights[c], least_weight));
    logs[c] = 0.5 * (kSmoothingAlpha * input - (1.0 - kSmoothingAlpha) * weight);
  }
  const double mean = std::accumulate(logs.begin(), logs.end(), 0.0) / static_cast<double>(logs.size());
  std::vector<float> scales(inputs.size());
  for (size_t c = 0; c < scales.size(); ++c) {
    const auto scale = static_cast<float>(std::exp(logs[c] - mean));
    scales[c] = scale > 0.0f && std::isfinite(scale) ? scale : 1.0f;
  }
  return scales;
}

void DivideMoments(absl::Span<const float> scales, absl::Span<float> moments) {
  const size_t n = scales.size();
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) moments[i * n + j] /= scales[i] * scales[j];
  }
}

}  // namespace nibble::engine
