#include "engine/tools/tensor_rounder.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "engine/quant/gptq.h"
#include "engine/quant/group_blocks.h"
#include "engine/quant/rotation.h"
#include "engine/quant/weight_groups.h"
#include "kvcache/base/check.h"

namespace nibble::engine {
namespace {

constexpr int64_t kRowsPerItem = 64;  // rounded together

void ReadRow(const Tensor& tensor, int64_t row, const FoldedScales& scales, absl::Span<float> values) {
  DecodeRow(tensor, row, values);
  for (size_t c = 0; c < scales.inputs.size(); ++c) values[c] *= scales.inputs[c];
  if (scales.outputs.empty()) return;
  for (float& value : values) value /= scales.outputs[static_cast<size_t>(row)];
}

}  // namespace

void TensorRounder::Replace(Encoding encoding, const FoldedScales& scales, Tensor* tensor,
                            absl::FunctionRef<void(absl::Span<const float>, std::byte*)> body) {
  NIBBLE_CHECK(tensor->cols() % kGroupSize == 0);
  const Tensor source = *tensor;
  Tensor rounded = source;
  rounded.encoding = encoding;
  std::vector<std::byte>& bytes = storage_.emplace_back(static_cast<size_t>(rounded.rows() * rounded.row_bytes()));
  rounded.data = bytes;
  pool_.ParallelFor((source.rows() + kRowsPerItem - 1) / kRowsPerItem, [&](int64_t item, int) {
    const int64_t first = item * kRowsPerItem, rows = std::min(kRowsPerItem, source.rows() - first);
    std::vector<float> values(static_cast<size_t>(rows * source.cols()));
    for (int64_t i = 0; i < rows; ++i) {
      ReadRow(source, first + i, scales,
              absl::MakeSpan(values).subspan(static_cast<size_t>(i * source.cols()), source.cols()));
    }
    if (encoding == Encoding::kH8_0) RotateWeights(absl::MakeSpan(values));
    body(values, bytes.data() + first * rounded.row_bytes());
  });
  *tensor = std::move(rounded);
}

void TensorRounder::Nearest(Encoding encoding, const FoldedScales& scales, Tensor* tensor) {
  const int64_t block_bytes = TraitsOf(encoding).block_bytes;
  Replace(encoding, scales, tensor, [&](absl::Span<const float> values, std::byte* blocks) {
    for (size_t k = 0; k < values.size(); k += kGroupSize, blocks += block_bytes) {
      int8_t codes[kGroupSize];
      float scale, min;
      RoundGroup(encoding, values.subspan(k, kGroupSize), codes, &scale, &min);
      WriteGroup(encoding, codes, scale, min, blocks);
    }
  });
}

void TensorRounder::Gptq(Encoding encoding, absl::Span<const float> factor, const FoldedScales& scales,
                         Tensor* tensor) {
  const int64_t cols = tensor->cols();
  Replace(encoding, scales, tensor, [&](absl::Span<const float> values, std::byte* blocks) {
    RoundRowsGptq(encoding, values, cols, factor, blocks);
  });
}

void TensorRounder::Divide(absl::Span<const float> by, Tensor* tensor) {
  std::vector<float> values(by.size());
  DecodeRow(*tensor, 0, absl::MakeSpan(values));
  for (size_t i = 0; i < by.size(); ++i) values[i] /= by[i];
  std::vector<std::byte>& bytes = storage_.emplace_back(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  tensor->encoding = Encoding::kF32;
  tensor->data = bytes;
}

}  // namespace nibble::engine
