#include "engine/tools/product_statistics.h"

#include "kvcache/base/check.h"

namespace nibble::engine {

ProductStatistics::ProductStatistics(int first, int end, bool with_head, simd::Isa isa, WorkerPool& pool)
    : first_(first),
      with_head_(with_head),
      layers_(static_cast<size_t>(end - first)),
      backend_(isa, pool, kv::RawFormF16(isa), /*codec=*/nullptr) {}

bool ProductStatistics::OnProduct(const ObservedProduct& observed) {
  if (observed.layer < first() || observed.layer >= end()) return false;
  Add(observed.input, &layer(observed.layer)[static_cast<size_t>(observed.product)]);
  return false;
}

void ProductStatistics::OnHead(View input) {
  if (with_head_) Add(input, &head_);
}

void ProductStatistics::Add(View input, InputMoments* moments) {
  moments->size = input.cols;
  moments->sums.resize(static_cast<size_t>(input.cols * input.cols));
  transposed_.resize(static_cast<size_t>(input.cols * input.rows));
  for (int64_t row = 0; row < input.rows; ++row) {
    for (int64_t col = 0; col < input.cols; ++col) transposed_[col * input.rows + row] = input.row(row)[col];
  }
  Tensor columns;
  columns.shape = {input.cols, input.rows};
  columns.data =
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(transposed_.data()), transposed_.size() * sizeof(float));
  const auto matrix = backend_.LoadMatrix({&columns}, WeightMode::kF32, {ActivationMode::kF32});
  NIBBLE_CHECK(matrix.ok());
  backend_.MatMul({transposed_.data(), input.cols, input.rows}, **matrix, {}, {}, Epilogue::kAdd,
                  {moments->sums.data(), input.cols, input.cols});
}

}  // namespace nibble::engine
