// Kernels over single rows: norms, rotary embedding, gated activations. All targets give the same bits.
#ifndef NIBBLE_ENGINE_BACKENDS_CPU_ROW_KERNELS_H_
#define NIBBLE_ENGINE_BACKENDS_CPU_ROW_KERNELS_H_

#include <cstdint>

#include "kvcache/simd/isa.h"

namespace nibble::engine {

struct RowKernels {
  // out = x / sqrt(mean(x^2) + epsilon) * weight over n values; out may be x. The sum of squares runs in sixteen
  // virtual lanes (element i in lane i mod 16) and one fixed tree.
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float epsilon, float* out);
  void (*add)(const float* x, const float* y, int64_t n, float* out);
  void (*scale)(float factor, int64_t n, float* x);
  // Rotates the pairs of one head in place. cosines, sines: [dims / 2].
  void (*rope_halves)(const float* cosines, const float* sines, int dims, float* head);
  void (*rope_pairs)(const float* cosines, const float* sines, int dims, float* head);
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out);  // gate / (1 + e^-gate) * up
  // 0.5 gate (1 + tanh(sqrt(2 / pi) (gate + 0.044715 gate^3))) * up
  void (*gelu_tanh_mul)(const float* gate, const float* up, int64_t n, float* out);
  void (*soft_cap)(float cap, int64_t n, float* x);  // cap * tanh(x / cap)
};

const RowKernels& RowKernelsFor(simd::Isa isa);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_BACKENDS_CPU_ROW_KERNELS_H_
