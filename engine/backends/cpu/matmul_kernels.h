// Matrix product kernels: one panel of 16 outputs against a block of rows, for each format and instruction set.
//
// Law 1: for each row and output the float operations are, group by group along K,
//   acc = fma(float(integer dot), x_scale * w_scale, acc), then acc = fma(x_scale * sum(x), w_min, acc)
// whatever the number of rows, the tile or the instruction set; integer dots are exact. f32 panels: acc = fma(x, w,
// acc) along K.
#ifndef NIBBLE_ENGINE_BACKENDS_CPU_MATMUL_KERNELS_H_
#define NIBBLE_ENGINE_BACKENDS_CPU_MATMUL_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "engine/backends/cpu/row_rounding.h"
#include "engine/quant/weight_groups.h"
#include "kvcache/simd/isa.h"

namespace nibble::engine {

struct PanelArgs {
  const std::byte* panel = nullptr;
  int64_t rows = 0;
  const QuantizedRows* x = nullptr;
  int64_t first_row = 0;         // of x
  const float* x_f32 = nullptr;  // f32 panels: [rows, cols]
  int64_t cols = 0;
  const float* bias = nullptr;  // [outputs] or null
  bool add = false;             // out += instead of out =
  float* out = nullptr;         // [rows, outputs], rows `out_stride` apart
  int64_t out_stride = 0;
  int outputs = 16;  // fewer in a ragged last panel
};

using PanelKernel = void (*)(const PanelArgs& args);

PanelKernel QuantizedPanelKernel(simd::Isa isa, const GroupFormat& format);
PanelKernel FloatPanelKernel(simd::Isa isa);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_BACKENDS_CPU_MATMUL_KERNELS_H_
