#include "engine/quant/rotation.h"

#include <cstddef>

#include "engine/weights/hadamard.h"

namespace nibble::engine {
namespace {

// Values `stride` apart.
void RotateGroup(float factor, int64_t stride, float* values) {
  float group[kHadamardSize];
  for (int i = 0; i < kHadamardSize; ++i) group[i] = values[i * stride];
  Hadamard32(group);
  for (int i = 0; i < kHadamardSize; ++i) values[i * stride] = group[i] * factor;
}

}  // namespace

void RotateWeights(absl::Span<float> weights) {
  for (size_t i = 0; i < weights.size(); i += kHadamardSize) RotateGroup(kRotatedWeightFactor, 1, &weights[i]);
}

void RotateMoments(int64_t n, absl::Span<float> moments) {
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < n; k += kHadamardSize) RotateGroup(kRotatedInputFactor, 1, &moments[i * n + k]);
  }
  for (int64_t k = 0; k < n; k += kHadamardSize) {
    for (int64_t i = 0; i < n; ++i) RotateGroup(kRotatedInputFactor, n, &moments[k * n + i]);
  }
}

}  // namespace nibble::engine
