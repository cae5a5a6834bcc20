// Rounds whole tensors for `nibble quantize`, rows in parallel.
#ifndef NIBBLE_ENGINE_TOOLS_TENSOR_ROUNDER_H_
#define NIBBLE_ENGINE_TOOLS_TENSOR_ROUNDER_H_

#include <cstddef>
#include <deque>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "engine/backends/cpu/worker_pool.h"
#include "engine/weights/weight_source.h"

namespace nibble::engine {

// What a matrix is multiplied by before it is rounded: column c by inputs[c], row r by 1 / outputs[r]. Empty: by 1.
struct FoldedScales {
  absl::Span<const float> inputs, outputs;
};

// Every method replaces the tensor's encoding and data; the bytes lie in `storage`. Results do not depend on threads.
class TensorRounder {
 public:
  // Both must outlive it, and `storage` the tensors.
  TensorRounder(WorkerPool& pool, std::deque<std::vector<std::byte>>& storage) : pool_(pool), storage_(storage) {}

  // REQUIRES: `encoding` is kQ4_1 or kQ8_0; columns are a multiple of 32.
  void Nearest(Encoding encoding, const FoldedScales& scales, Tensor* tensor);
  // By gptq.h, to kH8_0 as well; `factor` is FactorHessian's, of inputs divided by scales.inputs and, for kH8_0,
  // rotated.
  void Gptq(Encoding encoding, absl::Span<const float> factor, const FoldedScales& scales, Tensor* tensor);
  // A vector: to F32.
  void Divide(absl::Span<const float> by, Tensor* tensor);

 private:
  // Makes room for the tensor in another encoding, and calls body(values of some rows, [rows, cols]; bytes of them).
  void Replace(Encoding encoding, const FoldedScales& scales, Tensor* tensor,
               absl::FunctionRef<void(absl::Span<const float>, std::byte*)> body);

  WorkerPool& pool_;
  std::deque<std::vector<std::byte>>& storage_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_TENSOR_ROUNDER_H_
