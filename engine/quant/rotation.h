// Weights and the moments of inputs as they are once groups of 32 inputs are turned (engine/weights/hadamard.h).
#ifndef NIBBLE_ENGINE_QUANT_ROTATION_H_
#define NIBBLE_ENGINE_QUANT_ROTATION_H_

#include <cstdint>

#include "absl/types/span.h"

namespace nibble::engine {

// In place: what kH8_0 keeps of each group of weights. REQUIRES: whole groups.
void RotateWeights(absl::Span<float> weights);

// In place: what a kernel makes of each group of a row of inputs. REQUIRES: whole groups.
void RotateInputs(absl::Span<float> inputs);

// In place: sums of x x^T, [n, n], become those of the rotated inputs. REQUIRES: n is a multiple of 32.
void RotateMoments(int64_t n, absl::Span<float> moments);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_ROTATION_H_
