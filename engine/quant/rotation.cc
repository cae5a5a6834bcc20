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

void RotateInputs(absl::Span<float> inputs) {
  for (size_t i = 0; i < inputs.size(); i += kHadamardSize) RotateGroup(kRotatedInputFactor, 1, &inputs[i]);
}

void RotateMoments(int64_t n, absl::Span<float> moments) {
  RotateInputs(moments);  // row by row
  for (int64_t k = 0; k < n; k += kHadamardSize) {
    for (int64_t i = 0; i < n; ++i) RotateGroup(kRotatedInputFactor, n, &moments[k * n + i]);
  }
}

}  // namespace nibble::engine
