// Rounding of a matrix to 4 or 8 bits in groups of 32 so that its products change least: GPTQ (arXiv 2210.17323), in
// its form as Babai's nearest plane (arXiv 2507.18553). What one column's rounding does to the products is made good by
// the columns after it.
//
// A row w becomes q so that (w - q) H (w - q)^T is small, H = X^T X of the inputs X that the matrix meets. With
// H = L L^T that is the square of (w - q) L, whose entry j depends on columns j and later: columns are rounded from the
// last to the first, each to the grid point that brings its own entry nearest to zero.
#ifndef NIBBLE_ENGINE_QUANT_GPTQ_H_
#define NIBBLE_ENGINE_QUANT_GPTQ_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "engine/weights/encoding.h"

namespace nibble::engine {

// Of the mean of H's diagonal, added to the diagonal: inputs that calibration hardly saw.
inline constexpr float kGptqDamping = 0.01f;

// In place: `hessian`, [n, n] and symmetric, becomes L with zeros above the diagonal. False if a number is not finite,
// or the damped matrix is not positive definite in float. n^3 / 3 operations on the calling thread.
bool FactorHessian(int64_t n, absl::Span<float> hessian);

// Rounds rows of `n` weights, [rows, n], to blocks of kQ4_1, kQ8_0 or kH8_0, [rows, n / 32]. For kH8_0 weights and
// factor are those after rotation (rotation.h). A group with a weight that is not finite gets the scale NaN. REQUIRES:
// n is a multiple of 32. Rows do not depend on each other.
void RoundRowsGptq(Encoding encoding, absl::Span<const float> weights, int64_t n, absl::Span<const float> factor,
                   std::byte* blocks);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_GPTQ_H_
