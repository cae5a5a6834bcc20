// Product kernels of deltas: one panel of 16 outputs of a packed delta (packed_delta.h) against a block of rows.
//
// BitDelta, arXiv:2402.10193, section 3.3: x S = 2 sum over the set bits of x - sum of x, on the activations that the
// base's product has already rounded; the sum of x is one number a row, whatever the outputs.
// Law 1: for each row and output the float operations are, group by group along K, acc = fma(float(integer dot),
// x_scale, acc), then out = fma(scale, 2 acc - row sum, out) for signs, and out = fma(scale, acc, out) for codes.
#ifndef NIBBLE_ENGINE_BACKENDS_CPU_DELTA_KERNELS_H_
#define NIBBLE_ENGINE_BACKENDS_CPU_DELTA_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "engine/backends/cpu/row_rounding.h"
#include "kvcache/simd/isa.h"

namespace nibble::engine {

struct DeltaPanelArgs {
  const std::byte* panel = nullptr;
  const float* scales = nullptr;  // [16]
  int64_t rows = 0;
  const QuantizedRows* x = nullptr;
  int64_t first_row = 0;  // of x
  float* out = nullptr;   // [rows, outputs], rows `out_stride` apart; added to
  int64_t out_stride = 0;
  int outputs = 16;  // fewer in a ragged last panel
};

using DeltaPanelKernel = void (*)(const DeltaPanelArgs& args);

// bits: 1 (signs) or 8 (codes).
DeltaPanelKernel DeltaPanelKernelFor(simd::Isa isa, int bits);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_BACKENDS_CPU_DELTA_KERNELS_H_
