// Scales that move what is large in a product's inputs into its weights, where both are rounded to 8 bits: SmoothQuant
// (arXiv 2211.10438, section 4). An input c is divided by its scale, the weights that meet it are multiplied by it;
// what makes the input does the division, so that it costs nothing at run time.
#ifndef NIBBLE_ENGINE_QUANT_SMOOTHING_H_
#define NIBBLE_ENGINE_QUANT_SMOOTHING_H_

#include <vector>

#include "absl/types/span.h"
#include "engine/weights/weight_source.h"

namespace nibble::engine {

// How much of the difference the weights take: half, so that both become equally large.
inline constexpr float kSmoothingAlpha = 0.5f;

// Adds the squares of each column's weights, [cols].
void AddColumnEnergies(const Tensor& matrix, absl::Span<double> energies);

// One for each input, from the sums of squares of what it was and of the weights that it meets. The paper takes largest
// values in place of sums; sums are what calibration has. All are finite and above 0, whatever the sums, and their
// geometric mean is 1: neither the length of a text nor the rows of a matrix move the weights' range.
std::vector<float> SmoothingScales(absl::Span<const double> inputs, absl::Span<const double> weights);

// Sums of x x^T, [n, n], of inputs divided by their scales.
void DivideMoments(absl::Span<const float> scales, absl::Span<float> moments);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_SMOOTHING_H_
