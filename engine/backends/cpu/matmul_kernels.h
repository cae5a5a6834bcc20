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

#include "engine/quant/weight_groups.h"
#include "kvcache/simd/isa.h"

namespace nibble::engine {

// Rows quantized dynamically, one scale per token and group of 32: symmetric int8, or 4 bits, whose codes are sixteen
// integers in a row, zero among them (a zero point of 4 bits, which the codes have in them). Of a group of 4 bits some
// inputs may be int8 on the same step, so that the few large ones do not make it wide (the mixed precision of Atom,
// arXiv 2310.19102, section 4.1, but in place). codes: [rows, groups * 32], the others [rows, groups] where nothing
// else is said.
struct QuantizedRows {
  int8_t* codes = nullptr;
  float* scales = nullptr;
  float* scaled_sums = nullptr;  // scale * sum of the group's codes
  int32_t* biases = nullptr;     // -128 * sum of the group's codes: undoes the shift of weights to unsigned
  float* row_sums = nullptr;     // of the scaled sums, in order; [rows]
  int64_t groups = 0;
};

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

// Quantizes one row of `cols` floats: to int8, or, where `int4_inputs` is given, to 4 bits wherever it is 1 and to int8
// where it is 0, [groups * 32]. A group that holds NaN or infinity gets scale NaN, so that its products say so.
void QuantizeRow(simd::Isa isa, const float* x, int64_t cols, int64_t row, const float* int4_inputs,
                 const QuantizedRows& out);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_BACKENDS_CPU_MATMUL_KERNELS_H_
