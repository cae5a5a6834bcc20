// Rows of activations rounded just before a product. All targets give the same bits.
#ifndef NIBBLE_ENGINE_BACKENDS_CPU_ROW_ROUNDING_H_
#define NIBBLE_ENGINE_BACKENDS_CPU_ROW_ROUNDING_H_

#include <cstdint>
#include <vector>

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

// Memory of QuantizedRows, used again from product to product.
class QuantizedRowsBuffer {
 public:
  // Room for that many; what was in it may be lost. Valid until the next call.
  QuantizedRows Fit(int64_t rows, int64_t groups);

 private:
  std::vector<int8_t> codes_;
  std::vector<float> scales_, scaled_sums_, row_sums_;
  std::vector<int32_t> biases_;
};

// What a matrix wants of its inputs.
struct RowForm {
  const float* int4_inputs = nullptr;  // [groups * 32]: 4 bits wherever it is 1, int8 where it is 0; nullptr: all int8
  bool rotated = false;                // each group turned first (engine/weights/hadamard.h)
};

// Quantizes one row of `cols` floats. A group that holds NaN or infinity, or whose sums overflow as it is turned, gets
// scale NaN, so that its products say so.
void QuantizeRow(simd::Isa isa, const float* x, int64_t cols, int64_t row, const RowForm& form,
                 const QuantizedRows& out);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_BACKENDS_CPU_ROW_ROUNDING_H_
