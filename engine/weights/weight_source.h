// Tensors of a model file, apart from what container holds them. A container (GGUF; later safetensors) yields a
// WeightSource, a ModelConfig and a TokenizerData; nothing above knows which container they came from.
//
// Tensor names are GGUF's ("token_embd.weight", "blk.0.attn_q.weight", …), the ecosystem's common tongue.
#ifndef NIBBLE_ENGINE_WEIGHTS_WEIGHT_SOURCE_H_
#define NIBBLE_ENGINE_WEIGHTS_WEIGHT_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "engine/weights/encoding.h"

namespace nibble::engine {

struct Tensor {
  std::string name;
  Encoding encoding = Encoding::kF32;
  // Outermost first: a matrix is [rows = outputs, cols = inputs], stored row after row; a vector is [n].
  std::vector<int64_t> shape;
  absl::Span<const std::byte> data;  // owned by the source

  int64_t cols() const { return shape.back(); }
  int64_t rows() const;  // product of all but the last
  int64_t row_bytes() const { return cols() / TraitsOf(encoding).block_elements * TraitsOf(encoding).block_bytes; }
  const std::byte* row(int64_t i) const { return data.data() + i * row_bytes(); }
};

// The values of one row. REQUIRES: i < tensor.rows(); out: [cols].
inline void DecodeRow(const Tensor& tensor, int64_t i, absl::Span<float> out) {
  TraitsOf(tensor.encoding).decode(tensor.row(i), out);
}

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual absl::Span<const Tensor> tensors() const = 0;
  // nullptr if there is none of that name.
  virtual const Tensor* Find(std::string_view name) const = 0;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_WEIGHT_SOURCE_H_
