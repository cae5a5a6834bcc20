// The inner loops of attention_sensitivity.h. Tokens lie in the lanes; the same bits on every instruction set.
#ifndef NIBBLE_ENGINE_QUANT_CALIBRATION_SENSITIVITY_KERNELS_H_
#define NIBBLE_ENGINE_QUANT_CALIBRATION_SENSITIVITY_KERNELS_H_

#include <cstdint>

#include "kvcache/simd/isa.h"

namespace nibble::engine {

// One query against the tokens [first, last) that it reads sealed, both multiples of 32.
struct QuerySensitivityArgs {
  const float* probabilities = nullptr;   // [last]
  const float* crossings = nullptr;       // [last]: o G v of each token
  const float* value_energies = nullptr;  // [last]: v G v of each token
  float output_energy = 0.0f;             // o G o
  float value_factor = 0.0f;
  float key_factor = 0.0f;
  int64_t first = 0, last = 0;
  float* value_weights = nullptr;  // [last] += value_factor p^2
  float* key_weights = nullptr;    // [last] += key_factor p^2 (v - o) G (v - o)
  float* page_weights = nullptr;   // [last / 32]: what was added to the key weights of each page
};

struct SensitivityKernels {
  // scores[0, n) become their softmax; hidden ones are -infinity. n is a multiple of 16.
  void (*softmax)(float* scores, int64_t n);
  void (*add_query)(const QuerySensitivityArgs& args);
};

const SensitivityKernels& SensitivityKernelsFor(simd::Isa isa);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_CALIBRATION_SENSITIVITY_KERNELS_H_
