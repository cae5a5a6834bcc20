#include "engine/quant/smoothing.h"

#include <algorithm>
#include <cmath>
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
  std::vector<float> scales(inputs.size());
  for (size_t c = 0; c < scales.size(); ++c) {
    const double ratio = std::max(inputs[c], least_input) / std::max(weights[c], least_weight);
    const auto scale = static_cast<float>(std::pow(ratio, 0.25));
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
