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
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual absl::Span<const Tensor> tensors() const = 0;
  // nullptr if there is none of that name.
  virtual const Tensor* Find(std::string_view name) const = 0;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_WEIGHT_SOURCE_H_
