#include "engine/quant/gptq.h"

#include <algorithm>
#include <cmath>

#include "engine/quant/calibration/eigen.h"
#include "engine/quant/group_blocks.h"

namespace nibble::engine {
namespace {

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct CodeRange {
  float lowest, highest;
};

CodeRange CodesOf(Encoding encoding) {
  return encoding == Encoding::kQ4_1 ? CodeRange{0.0f, 15.0f} : CodeRange{-127.0f, 127.0f};
}

// One row's group whose first column is `first`. `feedback` is what the errors of later groups do to its columns.
void RoundGroupGptq(Encoding encoding, const float* weights, const float* feedback,
                    const Eigen::Map<const RowMajor>& factor, int64_t first, float* errors, std::byte* block) {
  const CodeRange range = CodesOf(encoding);
  float wanted[kGroupSize];
  for (int k = 0; k < kGroupSize; ++k) wanted[k] = weights[k] + feedback[k] / factor(first + k, first + k);
  int8_t codes[kGroupSize];
  float scale, min;
  RoundGroup(encoding, wanted, codes, &scale, &min);
  const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
  for (int k = std::isfinite(scale) ? kGroupSize - 1 : -1; k >= 0; --k) {
    float sum = feedback[k];
    for (int later = k + 1; later < kGroupSize; ++later) sum += errors[later] * factor(first + later, first + k);
    const float value = weights[k] + sum / factor(first + k, first + k);
    codes[k] = static_cast<int8_t>(std::clamp(std::nearbyintf((value - min) * inverse), range.lowest, range.highest));
    errors[k] = weights[k] - (scale * static_cast<float>(codes[k]) + min);
  }
  WriteGroup(encoding, codes, scale, min, block);
}

}  // namespace

bool FactorHessian(int64_t n, absl::Span<float> hessian) {
  Eigen::Map<RowMajor> matrix(hessian.data(), n, n);
  matrix.diagonal().array() += std::max(kGptqDamping * matrix.diagonal().mean(), 1e-20f);
  Eigen::LLT<Eigen::Ref<RowMajor>> factor(matrix);
  matrix.triangularView<Eigen::StrictlyUpper>().setZero();
  return factor.info() == Eigen::Success && matrix.allFinite();
}

void RoundRowsGptq(Encoding encoding, absl::Span<const float> weights, int64_t n, absl::Span<const float> factor,
                   std::byte* blocks) {
  const int64_t rows = static_cast<int64_t>(weights.size()) / n;
  const int64_t block_bytes = TraitsOf(encoding).block_bytes;
  const Eigen::Map<const RowMajor> lower(factor.data(), n, n);
  RowMajor errors = RowMajor::Zero(rows, n), feedback(rows, kGroupSize);
  for (int64_t first = n - kGroupSize; first >= 0; first -= kGroupSize) {
    const int64_t later = n - first - kGroupSize;
    feedback.noalias() = errors.rightCols(later) * lower.block(first + kGroupSize, first, later, kGroupSize);
    for (int64_t row = 0; row < rows; ++row) {
      RoundGroupGptq(encoding, &weights[row * n + first], &feedback(row, 0), lower, first, &errors(row, first),
                     blocks + (row * (n / kGroupSize) + first / kGroupSize) * block_bytes);
    }
  }
}

}  // namespace nibble::engine
